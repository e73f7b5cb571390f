"""What the state folder keeps of uploads: their files and their ways into stores, in one database."""

from __future__ import annotations

from pathlib import Path

from lsbuild_runtime.uploads.attached import Attachments
from lsbuild_runtime.uploads.database import Database
from lsbuild_runtime.uploads.files import Clock, Files


class Uploads:
    """Opens nothing before it is asked."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self._database = Database(folder)
        self.files = Files(self._database, clock)
        self.attached = Attachments(self._database, self.files, clock)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
