"""Says before anything is written whether the disk has room for an update; it changes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lsbuild_runtime.updates.errors import NoRoom
from lsbuild_runtime.updates.fetch import is_whole
from lsbuild_runtime.updates.format import PARTS, Part, Update
from lsbuild_runtime.updates.having import Had

SPARE = 16 << 20
"""Bytes that stay free: the record, the names of thousands of files, the log that says what happened."""


def require(update: Update, parts: Sequence[Part], had: Had, slot: Path, incoming: Path, *, shared: bool) -> None:
    """Raise NoRoom unless ``parts`` can be fetched and ``slot`` built; ``shared`` says that files get second names there."""
    fetched = sum(part.stored for part in parts if not is_whole(incoming / PARTS / part.name, part))
    built = sum(file.size for file in update.files if not (shared and file.sha256 in had.files))
    there = next(path for path in (slot, *slot.parents) if path.is_dir())
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize + _only_there(slot)
    needed = fetched + built + SPARE
    if needed > free:
        raise NoRoom(
            f"the update needs {needed / 1e6:.1f} MB on the disk of {there}, {free / 1e6:.1f} MB are free; "
            "make room and try again: nothing was changed"
        )


def _only_there(folder: Path) -> int:
    """Bytes that come free when ``folder`` is taken away."""
    total = 0
    for path in folder.rglob("*") if folder.is_dir() else ():
        status = path.lstat()
        if path.is_file() and status.st_nlink == 1:
            total += status.st_size
    return total
