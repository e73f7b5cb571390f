"""Connections to the database: opened when one is needed, kept, checked before each use; they know no query."""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from lsbuild_plugins.pgvector.serve.faults import api_error, unavailable
from lsbuild_plugins.pgvector.serve.settings import Settings, conninfo
from lsbuild_plugins.pgvector.serve.values import Vector, VectorDumper

Connection = psycopg.Connection[tuple[Any, ...]]

EF_SEARCH = 100
"""Candidates that a search of an index looks at when nothing was measured."""

IDLE_S = 30.0
"""A connection that rested longer is asked before it is used: a firewall, or a frozen Lambda, may have lost it."""

_EXTENSION = """SELECT e.extversion, quote_ident(n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"""


class Pool:
    """At most ``connections`` at a time, each used by one thread at a time; a thread waits for a free one.

    psycopg-pool would do, with four threads of its own and 20 ms of import; a server whose threads are bounded needs
    neither, and one that is frozen between requests must not have them.
    """

    def __init__(self, settings: Settings, store: str) -> None:
        self._settings = settings
        self._ef_search = settings.ef_search or EF_SEARCH
        self._conninfo = conninfo(settings)
        self._store = store
        self._room = threading.BoundedSemaphore(settings.connections)
        self._idle: deque[tuple[Connection, float]] = deque()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow one, in autocommit. What psycopg raises becomes an ApiError; after the cause is gone the next call
        succeeds, since a connection that fell is never used again.
        """
        if not self._room.acquire(timeout=self._settings.statement_timeout):
            fault = f"is busy: all {self._settings.connections} connections are in use; raise config.connections"
            raise unavailable(self._store, fault, "database_busy", retry_after=1)
        try:
            ef_search = self._ef_search
            connection = self._borrow()
            try:
                yield connection
            finally:
                self._give_back(connection, ef_search)
        except psycopg.Error as error:
            raise api_error(error, self._store) from None
        finally:
            self._room.release()

    def look_at(self, ef_search: int) -> None:
        """From now on searches of the index look at so many candidates."""
        if ef_search != self._ef_search:
            self._ef_search = ef_search
            self.close()

    def close(self) -> None:
        """Close what rests."""
        while self._idle:
            self._idle.pop()[0].close()

    def _borrow(self) -> Connection:
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                return self._connect()
            if _alive(connection, time.monotonic() - since):
                return connection
            connection.close()

    def _give_back(self, connection: Connection, ef_search: int) -> None:
        usable = not connection.closed and ef_search == self._ef_search
        if usable and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.close()

    def _connect(self) -> Connection:
        connection = psycopg.connect(self._conninfo, autocommit=True)
        try:
            connection.adapters.register_dumper(Vector, VectorDumper)
            configure(connection, self._settings, self._ef_search)
        except BaseException:
            connection.close()
            raise
        return connection


def configure(connection: Connection, settings: Settings, ef_search: int) -> None:
    """Set what our statements rely on, for the whole session; run again once the extension is there.

    A plan made for any LIMIT would pass the vector index by, so plans are made for the values at hand; compiling a
    short query costs more than running it.
    """
    found = connection.execute(_EXTENSION).fetchone()
    version, place = found or ("0", "")
    values = {
        "search_path": ", ".join(filter(None, (f'"{settings.schema}"', place))),
        "statement_timeout": str(round(settings.statement_timeout * 1000)),
        "lock_timeout": str(round(settings.statement_timeout * 1000)),
        "plan_cache_mode": "force_custom_plan",
        "jit": "off",
    }
    if found and settings.index == "hnsw":
        values["hnsw.ef_search"] = str(ef_search)
        if _number(version) >= (0, 8):
            values["hnsw.iterative_scan"] = "strict_order"
    calls = ", ".join("set_config(%s, %s, false)" for _ in values)
    connection.execute(f"SELECT {calls}", [part for pair in values.items() for part in pair])
    # What is acknowledged is on the disk, whatever the server's default; a stronger default stays.
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )


def extension_version(connection: Connection) -> tuple[int, ...]:
    """Of pgvector in this database; empty when it is not there."""
    found = connection.execute(_EXTENSION).fetchone()
    return _number(found[0]) if found else ()


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _alive(connection: Connection, rested: float) -> bool:
    """Whether the server's end is still there, as far as this machine knows; after a long rest it is asked.

    A server has nothing to say to a connection that rests, except that it ends it.
    """
    said = select.poll()
    said.register(connection.fileno(), select.POLLIN)
    if said.poll(0):
        return False
    if rested > IDLE_S:
        try:
            connection.execute("SELECT 1")
        except psycopg.Error:
            return False
    return True
