"""A SQLite file of the state folder: how it is made, its transactions, and what its errors mean to a client.

It knows no table: those belong to who keeps something.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.services import NO_STATE

if TYPE_CHECKING:
    from apsw import Connection

_BUSY_MS = 5_000
_LOG_BYTES = 4 << 20
"""What the write-ahead log keeps of the disk after something large went through it."""


class Schema(Struct, frozen=True):
    """What is in a database file. ``holds`` names its contents in messages: "the uploads".

    ``tables`` are the statements that make an empty file; ``version`` is raised whenever they change, and ``steps`` are
    the statements that bring a file of version 1, 2, ... one further. A file of a later version is refused.
    """

    holds: str
    tables: str
    version: int = 1
    steps: tuple[str, ...] = ()


class Database:
    """Transactions on the file ``path``, one at a time in this process; made when it is first used.

    What a transaction wrote is on the disk when its block ends (WAL, synchronous=FULL). Errors of SQLite become
    ApiError 507 (disk full) or 503; the connection is then opened anew by the next call, so that a cause that has gone
    leaves no trace.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._schema = schema
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
        try:
            import apsw  # most cold starts keep nothing
        except ImportError:
            raise built_without_state() from None
        with self._lock:
            try:
                connection = self._connection = self._connection or _open(self.path, self._schema)
                connection.execute(begin)
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except apsw.Error as error:
                self.close()
                raise fault(error, self.path, self._schema.holds) from error


def _open(path: Path, schema: Schema) -> Connection:
    import apsw

    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(_BUSY_MS)
        connection.pragma("journal_mode", "WAL")  # one by one: apsw does not run what follows a pragma that answers
        connection.pragma("synchronous", "FULL")
        connection.pragma("journal_size_limit", _LOG_BYTES)
        _make(connection, path, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: Connection, path: Path, schema: Schema) -> None:
    if connection.pragma("user_version") == schema.version:
        return
    connection.execute("BEGIN IMMEDIATE")  # another process may be making them as well
    version: int = connection.pragma("user_version")
    if version == 0:
        connection.execute(schema.tables)
    elif version <= schema.version:
        for step in schema.steps[version - 1 :]:
            connection.execute(step)
    else:
        raise unavailable(
            f"{path} has schema {version}, this runtime writes {schema.version}; start the newer artifact"
        )
    connection.execute(f"PRAGMA user_version={schema.version}")
    connection.execute("COMMIT")


def fault(error: Exception, path: Path, holds: str) -> ApiError:
    """The answer to a client for an error of SQLite (apsw.Error)."""
    import apsw

    if isinstance(error, apsw.FullError):
        message = f"the disk that holds {path.parent} is full; free some space and try again"
        return ApiError(507, message, type="server_error", code="disk_full")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return unavailable(f"{holds} are being written by another process; try again", retry_after=1)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return unavailable(f"{path} is damaged ({error}); move it away or restore it from a backup")
    return unusable(path.parent, str(error))


def unusable(folder: Path, why: str) -> ApiError:
    """A 503 for a state folder that is not ours to use."""
    advice = "make it writable, or start the server with another --state FOLDER or LSBUILD_STATE"
    return unavailable(f"{folder} cannot be used ({why}); {advice}")


def built_without_state() -> ApiError:
    """A 503 where the wheels that state needs are not in the artifact."""
    message = "this artifact was built without what state needs; say `server.state` in the spec and build again"
    return ApiError(503, message, type="server_error", code=NO_STATE)


def unavailable(message: str, retry_after: int | None = None) -> ApiError:
    """A 503 with what to do."""
    return ApiError(503, message, type="server_error", code="service_unavailable", retry_after=retry_after)
