"""The one SQLite file of the state folder: its schema, its transactions and what its errors mean to a client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lsbuild_runtime.http import ApiError

if TYPE_CHECKING:
    from apsw import Connection

FILE_NAME = "uploads.sqlite"
SCHEMA = 1
_BUSY_MS = 5_000
_LOG_BYTES = 4 << 20
"""What the write-ahead log keeps of the disk after a large upload went through it."""

# `attached.seq` is the ticket of one attachment: attaching a file again makes another one, and what was done for an old
# ticket counts no more. `todo` marks what the worker has to look at: files to be read, and removals to be finished.
_TABLES = """
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
"""


class Database:
    """Transactions on ``folder/uploads.sqlite``, one at a time in this process; made when it is first used.

    What a transaction wrote is on the disk when its block ends (WAL, synchronous=FULL). Errors of SQLite become
    ApiError 507 (disk full) or 503; the connection is then opened anew by the next call, so that a cause that has gone
    leaves no trace.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.RLock()
        self._connection: Connection | None = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection whose statements see one state of the file."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection whose statements are kept together or not at all."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        import apsw  # uploads are rare on a cold start, and most artifacts have none

        with self._lock:
            try:
                connection = self._connection = self._connection or _open(self.path)
                connection.execute(begin)
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except apsw.Error as error:
                self.close()
                raise fault(error, self.path) from error


def _open(path: Path) -> Connection:
    import apsw

    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(_BUSY_MS)
        connection.pragma("journal_mode", "WAL")  # one by one: apsw does not run what follows a pragma that answers
        connection.pragma("synchronous", "FULL")
        connection.pragma("journal_size_limit", _LOG_BYTES)
        _make(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: Connection, path: Path) -> None:
    if connection.pragma("user_version") == SCHEMA:
        return
    connection.execute("BEGIN IMMEDIATE")  # another process may be making them as well
    version = connection.pragma("user_version")
    if version == 0:
        connection.execute(f"{_TABLES}; PRAGMA user_version={SCHEMA}")
    connection.execute("COMMIT")
    if version not in (0, SCHEMA):
        raise unavailable(f"{path} has schema {version}, this runtime writes {SCHEMA}; start the newer artifact")


def fault(error: Exception, path: Path) -> ApiError:
    """The answer to a client for an error of SQLite (apsw.Error)."""
    import apsw

    if isinstance(error, apsw.FullError):
        message = f"the disk that holds {path.parent} is full; free some space and try again"
        return ApiError(507, message, type="server_error", code="disk_full")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return unavailable("the uploads are being written by another process; try again", retry_after=1)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return unavailable(f"{path} is damaged ({error}); move it away or restore it from a backup")
    fault = f"{path.parent} cannot be used ({error})"
    return unavailable(f"{fault}; make it writable, or start the server with another --state FOLDER or LSBUILD_STATE")


def unavailable(message: str, retry_after: int | None = None) -> ApiError:
    """A 503 with what to do."""
    return ApiError(503, message, type="server_error", code="service_unavailable", retry_after=retry_after)
