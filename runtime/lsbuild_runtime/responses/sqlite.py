"""Records in a SQLite file of the state folder; which servers still work with it, the kernel knows by their locks."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import msgspec

from lsbuild_runtime.database import Database, Schema, unavailable, unusable
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.responses import FILE_NAME, FOLDER
from lsbuild_runtime.responses.records import Limits, Records
from lsbuild_runtime.responses.sql import SqlRecords
from lsbuild_runtime.responses.tables import TABLES, Statements

SCHEMA = Schema(
    "the responses",
    TABLES.format(
        SERIAL="INTEGER PRIMARY KEY AUTOINCREMENT", INTEGER="INTEGER", BYTES="BLOB", STRICT="STRICT"
    ),
)  # fmt: skip


def open_records(service: Service, root: Path, host: Host) -> Records:  # noqa: ARG001 - the entry's shape
    """The entry of `inline::sqlite`. ApiError 503 when the server has no folder for state, or the artifact no SQLite."""
    try:
        import apsw  # noqa: F401 - a build without it is told from a broken disk
    except ImportError:
        raise unavailable(
            "this artifact was built without SQLite; say server.state in the spec and build again"
        ) from None
    limits = msgspec.convert(service.config, Limits)
    return SqlRecords(SqliteStore(host.state(FOLDER)), limits, time.time)


class SqliteStore:
    """Implements tables.Store in ``folder``.

    An owner holds the lock of a file named after it as long as its process lives. The kernel gives the lock back when the
    process ends in whatever way, so that what a killed server had begun goes on at once in the next one.
    """

    now = "unixepoch()"
    locking = ""  # one transaction writes at a time
    leases = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = Database(folder / FILE_NAME, SCHEMA)
        self._locks: dict[str, IO[bytes]] = {}

    def reading(self) -> AbstractContextManager[Statements]:
        """See tables.Store."""
        return self._database.reading()

    def writing(self) -> AbstractContextManager[Statements]:
        """See tables.Store."""
        return self._database.writing()

    def hold(self, owner: str) -> None:
        """Say that this process is ``owner``, until it ends."""
        if owner in self._locks:
            return
        try:
            file = (self._folder / f"{owner}.lock").open("wb")
        except OSError as error:
            raise unusable(self._folder, error.strerror or "") from error
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._locks[owner] = file

    def gone(self, heard: Mapping[str, int], now: int) -> Iterable[str]:  # noqa: ARG002 - a lock knows better than a clock
        """See tables.Store: those whose lock can be had."""
        return [owner for owner in heard if self._free(owner)]

    def close(self) -> None:
        """See tables.Store; gives up the locks too."""
        self._database.close()
        for owner, file in list(self._locks.items()):
            file.close()
            (self._folder / f"{owner}.lock").unlink(missing_ok=True)
        self._locks.clear()

    def _free(self, owner: str) -> bool:
        path = self._folder / f"{owner}.lock"
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        with contextlib.suppress(OSError):
            path.unlink()
        return True
