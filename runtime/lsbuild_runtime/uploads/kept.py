"""What the state folder keeps of uploads: their files and their ways into stores, in one database."""

from __future__ import annotations

from pathlib import Path

from lsbuild_runtime.database import Database, Schema
from lsbuild_runtime.uploads import FILE_NAME
from lsbuild_runtime.uploads.attached import Attachments
from lsbuild_runtime.uploads.files import Clock, Files

# `attached.seq` is the ticket of one attachment: attaching a file again makes another one, and what was done for an old
# ticket counts no more. `todo` marks what the worker has to look at: files to be read, and removals to be finished.
SCHEMA = Schema(
    "the uploads",
    """
CREATE TABLE files(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, filename TEXT NOT NULL, purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER, content BLOB NOT NULL
) STRICT;
CREATE TABLE batches(id TEXT PRIMARY KEY, store TEXT NOT NULL, created_at INTEGER NOT NULL, cancelled INTEGER NOT NULL)
    STRICT;
CREATE TABLE attached(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, store TEXT NOT NULL, file TEXT NOT NULL, status TEXT NOT NULL,
    todo INTEGER NOT NULL, tries INTEGER NOT NULL, created_at INTEGER NOT NULL, batch TEXT, attributes TEXT NOT NULL,
    tokens INTEGER NOT NULL, overlap INTEGER NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
    UNIQUE(store, file)
) STRICT;
CREATE INDEX attached_todo ON attached(seq) WHERE todo = 1;
CREATE INDEX attached_batch ON attached(batch) WHERE batch IS NOT NULL;
CREATE INDEX files_expiry ON files(expires_at) WHERE expires_at IS NOT NULL;
""",
)


class Uploads:
    """Opens nothing before it is asked."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self._database = Database(folder / FILE_NAME, SCHEMA)
        self.files = Files(self._database, clock)
        self.attached = Attachments(self._database, self.files, clock)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
