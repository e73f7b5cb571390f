"""A database that several servers share, as responses.sql wants one: transactions, the tables, and who is still alive."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.postgres.address import Address
from lsbuild_runtime.postgres.faults import api_error, unavailable
from lsbuild_runtime.postgres.pool import Connection, Pool, configure
from lsbuild_runtime.responses.records import Limits
from lsbuild_runtime.responses.tables import TABLES, Rows, Statements

VERSION = 1
"""Raised whenever the tables change; a database of a later one is refused."""
_DATABASE = "the database of responses"
_LOCK = 0x6C73_6275_696C_64  # who makes the tables is alone: any number that nobody else takes
_MADE = "CREATE TABLE responses_schema(version BIGINT NOT NULL)"


class Settings(Address, frozen=True, kw_only=True):
    """The service's ``config``; times in seconds."""

    url: str
    schema: str
    lease: float
    days: int
    bytes: int
    queue: int
    deadline: float

    def limits(self) -> Limits:
        """What is kept, and for how long."""
        return Limits(self.days, self.bytes, self.queue, self.deadline, self.lease)


def read(service: Service) -> Settings:
    """The settings of ``service``."""
    settings = msgspec.convert(service.config, Settings, strict=False)
    return msgspec.structs.replace(settings, dsn=settings.url)


class PostgresStore:
    """Implements responses.tables.Store. An owner is alive as long as it was heard of within its lease, by the database's clock.

    The tables are made by the first transaction.
    """

    now = "floor(extract(epoch FROM clock_timestamp()))::bigint"
    locking = " FOR UPDATE"
    leases = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = Pool(settings, self._prepare, _fault, _busy, "url")
        self._making = threading.Lock()
        self._made = False

    @contextmanager
    def reading(self) -> Iterator[Statements]:
        """See tables.Store."""
        self._make()
        with self._pool.connection() as connection, connection.transaction():
            yield _Marked(connection)

    @contextmanager
    def writing(self) -> Iterator[Statements]:
        """See tables.Store."""
        self._make()
        with self._pool.connection() as connection, connection.transaction():
            yield _Marked(connection)

    def gone(self, heard: Mapping[str, int], now: int) -> Iterable[str]:
        """See tables.Store."""
        return [owner for owner, at in heard.items() if now - at > self._settings.lease]

    def hold(self, owner: str) -> None:
        """See tables.Store: being heard of is all it takes."""

    def close(self) -> None:
        """See tables.Store."""
        self._pool.close()

    def _prepare(self, connection: Connection) -> None:
        milliseconds = str(round(self._settings.statement_timeout * 1000))
        times = {"statement_timeout": milliseconds, "lock_timeout": milliseconds}
        configure(connection, {"search_path": f'"{self._settings.schema}"', **times, "jit": "off"})

    def _make(self) -> None:
        if self._made:
            return
        with self._making, self._pool.connection() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            schema = self._settings.schema
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            found = connection.execute("SELECT to_regclass('responses_schema')").fetchone()
            if found is None or found[0] is None:
                connection.execute(f"{_MADE}; {_tables()}")
                connection.execute("INSERT INTO responses_schema VALUES (%s)", (VERSION,))
            row = connection.execute("SELECT version FROM responses_schema").fetchone()
            if row is None or row[0] > VERSION:
                fault = (
                    f"has tables of version {row and row[0]}, this runtime knows {VERSION}; start the newer artifact"
                )
                raise unavailable(_DATABASE, fault, "database_version")
            self._made = True


class _Marked:
    """Statements whose parameters are marked by ``?``; a NUL, which PostgreSQL has no text with, is in no id of ours."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """See tables.Statements."""
        clean = [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values]
        return self._connection.execute(sql.replace("?", "%s").encode(), clean)


def _tables() -> str:
    words = {
        "SERIAL": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "INTEGER": "BIGINT",
        "BYTES": "BYTEA",
        "STRICT": "",
    }
    return TABLES.format(**words)


def _fault(error: Any) -> ApiError:
    return api_error(error, _DATABASE)


def _busy(fault: str) -> ApiError:
    return unavailable(_DATABASE, fault, "database_busy", retry_after=1)
