"""A SQLite file that keeps what clients write: made whole, written by one at a time, read by many; it knows no tables.

WAL lets readers go on while one writes; synchronous=FULL puts a commit on the disk before it is acknowledged. Nothing
but SQLite may open such a file: when a process closes any of its handles, POSIX drops all its locks on that file.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from lsbuild_plugins.sqlite_vec.serve.connect import load_vec0
from lsbuild_plugins.sqlite_vec.serve.faults import busy, faults

BUSY_SECONDS = 5.0
"""How long a write waits for another one."""

_SETUP = (
    "PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA cell_size_check=1; PRAGMA journal_size_limit=16777216"
)
_LOCK = "lock"


class StateFile:
    """One file and this process's connections to it. ``path`` need not exist: readers are then told so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.Lock()
        self._writer: apsw.Connection | None = None
        self._idle: deque[apsw.Connection] = deque()
        self._closed = False

    def exists(self) -> bool:
        """Whether it was made, by whatever process."""
        return self.path.exists()

    def make(self, fill: Callable[[apsw.Connection], None]) -> None:
        """Make the file with what ``fill`` writes unless it is there; it appears whole, and stays after a power cut."""
        with faults(self.path):
            make_folder(self.path.parent)
            with locked(self.path.parent):
                if not self.path.exists():
                    new = self.path.with_suffix(".new")
                    for left in self.path.parent.glob(f"{new.name}*"):  # of a process that died here
                        left.unlink()
                    _write_whole(new, fill)
                    new.rename(self.path)
                    sync(self.path.parent)

    @contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """A connection in a transaction: all it reads is one committed state."""
        with faults(self.path):
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._open()
            try:
                db.execute("BEGIN")
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.close(True)
                raise
            self._idle.append(db)
            if self._closed:
                self.close()

    @contextmanager
    def write(self) -> Iterator[apsw.Connection]:
        """A connection in the one transaction that may write. It is on the disk when the block ends without an error;
        with one nothing has changed.
        """
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise busy(self.path)
        try:
            with faults(self.path):
                db = self._writer = self._writer or self._open()
                try:
                    db.execute("BEGIN IMMEDIATE")
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    self._writer = None  # closing rolls back; after a failed fsync no cache of it is to be trusted
                    db.close(True)
                    raise
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close what is not in use now; the rest follows when it comes back."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close(True)
        if self._turn.acquire(blocking=False):
            try:
                if self._writer is not None:
                    self._writer.close(True)
                    self._writer = None
            finally:
                self._turn.release()

    def _open(self) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX
        db = apsw.Connection(str(self.path.absolute()), flags=flags)
        db.set_busy_timeout(round(BUSY_SECONDS * 1000))
        load_vec0(db)
        db.execute(_SETUP)
        return db


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock among all processes; it is free again when its holder dies."""
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def locked_now(folder: Path) -> Iterator[bool]:
    """As ``locked``, but False at once when another holds it."""
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they stay after a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Put a file (or the names in a folder) on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_whole(path: Path, fill: Callable[[apsw.Connection], None]) -> None:
    """Without WAL, so that every error is one of a commit and none is left to closing."""
    db = apsw.Connection(str(path.absolute()))
    try:
        load_vec0(db)
        db.execute(f"PRAGMA page_size=4096; {_SETUP}")
        with db:
            fill(db)
        db.execute("PRAGMA journal_mode=WAL")
    finally:
        db.close()
    sync(path)
