"""The empty folder that a tool's process may write in, made and removed here, also where a server was killed with its tools.

A folder is locked for as long as its server lives, so one that nobody has locked is what a dead server left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from functools import lru_cache
from pathlib import Path

_PREFIX = "lsbuild-tool-"
_YOUNG = 60.0
"""Seconds in which a folder may not be locked yet by the server that makes it."""


class Workplace:
    """A new folder; ``path`` is "" where none can be made: the tool then works in ``/`` and writes nothing."""

    def __init__(self) -> None:
        self.path = ""
        self._lock = -1
        with contextlib.suppress(OSError):
            sweep(tempfile.gettempdir())
            self.path = tempfile.mkdtemp(prefix=_PREFIX)
            self._lock = _locked(self.path)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        if self.path:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@lru_cache(maxsize=4)
def sweep(parent: str) -> None:
    """Remove what dead servers of this user left in ``parent``; once in a process."""
    for path in Path(parent).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and time.time() - found.st_mtime > _YOUNG:
                lock = _locked(str(path))
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _locked(path: str) -> int:
    """The descriptor that holds the folder's lock; OSError when another process does."""
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened
