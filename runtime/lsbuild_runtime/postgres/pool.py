"""Connections to a database: opened when one is needed, kept, checked before each use; they know no query."""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.postgres.address import Address, conninfo

Connection = psycopg.Connection[tuple[Any, ...]]

IDLE_S = 30.0
"""A connection that rested longer is asked before it is used: a firewall, or a frozen Lambda, may have lost it."""


class Pool:
    """At most ``connections`` of the address at a time, each used by one thread at a time; a thread waits for a free one.

    psycopg-pool would do, with four threads of its own and 20 ms of import; a server whose threads are bounded needs
    neither, and one that is frozen between requests must not have them.

    ``prepare`` sets up each new connection; ``fault`` words what psycopg raises, and ``busy`` that no connection is free.
    ``named`` is what the spec calls the address's ``dsn``.
    """

    def __init__(
        self,
        address: Address,
        prepare: Callable[[Connection], None],
        fault: Callable[[psycopg.Error], ApiError],
        busy: Callable[[str], ApiError],
        named: str = "dsn",
    ) -> None:
        self._address = address
        self._conninfo = conninfo(address, named)
        self._prepare = prepare
        self._fault = fault
        self._busy = busy
        self._room = threading.BoundedSemaphore(address.connections)
        self._idle: deque[tuple[Connection, float]] = deque()
        self._generation = 0

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow one, in autocommit. What psycopg raises becomes an ApiError; after the cause is gone the next call
        succeeds, since a connection that fell is never used again.
        """
        if not self._room.acquire(timeout=self._address.statement_timeout):
            most = self._address.connections
            raise self._busy(f"is busy: all {most} connections are in use; raise config.connections")
        try:
            generation = self._generation
            connection = self._borrow()
            try:
                yield connection
            finally:
                self._give_back(connection, generation)
        except psycopg.Error as error:
            raise self._fault(error) from None
        finally:
            self._room.release()

    def close(self) -> None:
        """Close what rests, and what is in use as soon as it is given back; the next call connects anew."""
        self._generation += 1
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

    def _give_back(self, connection: Connection, generation: int) -> None:
        usable = not connection.closed and generation == self._generation
        if usable and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.close()

    def _connect(self) -> Connection:
        connection = psycopg.connect(self._conninfo, autocommit=True)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def configure(connection: Connection, values: dict[str, str]) -> None:
    """Set parameters for the whole session, and that what is acknowledged is on the disk."""
    calls = ", ".join("set_config(%s, %s, false)" for _ in values)
    connection.execute(f"SELECT {calls}", [part for pair in values.items() for part in pair])
    # Whatever the server's default is; a stronger one stays.
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )


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
