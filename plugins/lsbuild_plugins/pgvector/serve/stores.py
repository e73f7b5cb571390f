"""The stores that clients create, as rows of the same database: the port VectorStores."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from lsbuild_plugins.pgvector.serve import schema
from lsbuild_plugins.pgvector.serve.connect import Pool
from lsbuild_plugins.pgvector.serve.settings import read
from lsbuild_plugins.pgvector.serve.store import MutableStore
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.mutable import StoreRecord
from lsbuild_runtime.ports import Host
from lsbuild_runtime.postgres.pool import Connection

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Stores:
    """Those that clients of one service created; stores of specs and of other services are not among them."""

    def __init__(self, service: Service, host: Host) -> None:
        self._owner = service.name
        self._settings = read(service)
        self._host = host
        self._pool = Pool(self._settings, service.name)
        self._lock = threading.Lock()
        self._ready = False

    def create(self, record: StoreRecord) -> MutableStore:
        """See VectorStores. ApiError 400 for an id that is none, 409 when it is taken."""
        if not _ID.fullmatch(record.id):
            message = f"{record.id!r} is no id of a vector store: use letters, digits, _ . and -, at most 128"
            raise ApiError(400, message, param="id")
        text = msgspec.json.encode(record).decode()
        with self._opened() as connection, connection.transaction():
            schema.lock(connection, 0)
            if schema.find(connection, record.id, self._owner):
                raise ApiError(409, f"there is a vector store {record.id!r} already", param="id", code="exists")
            values = (record.id, record.embedding, record.dimensions, self._owner, text)
            tables = schema.create(connection, *values)
            schema.index(connection, tables, self._settings)
        return self._store(record.id, tables)

    def records(self) -> Sequence[StoreRecord]:
        """See VectorStores."""
        with self._opened() as connection:
            rows = connection.execute("SELECT record FROM stores WHERE owner = %s", (self._owner,)).fetchall()
        found = [msgspec.json.decode(row[0], type=StoreRecord) for row in rows]
        return sorted(found, key=lambda record: (record.created_at, record.id))

    def update(self, record: StoreRecord) -> bool:
        """See VectorStores."""
        with self._opened() as connection, connection.transaction():
            tables = self._find(connection, record.id)
            if tables is None:
                return False
            kept = msgspec.structs.replace(record, embedding=tables.embedding, dimensions=tables.dimensions)
            text = msgspec.json.encode(kept).decode()
            done = connection.execute("UPDATE stores SET record = %s WHERE id = %s", (text, tables.store))
            return done.rowcount == 1

    def open(self, store_id: str) -> MutableStore | None:
        """See VectorStores."""
        with self._opened() as connection:
            tables = self._find(connection, store_id)
        return self._store(store_id, tables) if tables else None

    def drop(self, store_id: str) -> bool:
        """See VectorStores."""
        with self._opened() as connection, connection.transaction():
            schema.lock(connection, 0)
            tables = self._find(connection, store_id)
            if tables is None:
                return False
            schema.drop(connection, tables)
            return True

    def _find(self, connection: Connection, store_id: str) -> schema.Tables | None:
        return schema.find(connection, store_id, self._owner) if _ID.fullmatch(store_id) else None

    def _store(self, store_id: str, tables: schema.Tables) -> MutableStore:
        """The store by its number: one that takes the id of a dropped one has other tables."""
        return MutableStore(store_id, tables.embedding, self._pool, self._settings, self._host, lambda _: tables)

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        with self._pool.connection() as connection:
            if not self._ready:
                with self._lock:
                    schema.prepare(connection, self._settings, self._owner)
                    self._ready = True
            yield connection
