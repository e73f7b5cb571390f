"""A store of the spec: found in the database, made and filled from the build's seed by whoever asks first."""

from __future__ import annotations

import threading
from pathlib import Path

from lsbuild_plugins.pgvector.serve import schema, seed
from lsbuild_plugins.pgvector.serve.connect import Pool
from lsbuild_plugins.pgvector.serve.faults import unavailable
from lsbuild_plugins.pgvector.serve.load import load
from lsbuild_plugins.pgvector.serve.settings import Settings, read
from lsbuild_plugins.pgvector.serve.store import MutableStore, Store
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.postgres.pool import Connection


def open_store(service: Service, root: Path, host: Host) -> Store:
    """The store that ``service`` names. Its seed's header is read now, the database is reached by the first question."""
    settings = read(service)
    path = root / service.path if service.path else None
    if path is not None:
        seed.read_header(path)
    pool = Pool(settings, service.name)
    place = Place(service, settings, path, host, pool)
    kind = MutableStore if service.metadata.get("mutable") is True else Store
    return kind(service.name, place.embedding, pool, settings, host, place.tables)


class Place:
    """Where the store lies; remembered once it is there."""

    def __init__(self, service: Service, settings: Settings, path: Path | None, host: Host, pool: Pool) -> None:
        self._name = service.name
        self.embedding = str(service.metadata["embedding_model"])
        self._settings = settings
        self._seed = path
        self._host = host
        self._pool = pool
        self._lock = threading.Lock()
        self._found: schema.Tables | None = None

    def tables(self, connection: Connection) -> schema.Tables:
        """The store's tables, with this build's documents in them. ApiError 503 when it was made for another model."""
        if self._found is None:
            with self._lock:
                if self._found is None:
                    self._found = self._open(connection)
        return self._found

    def _open(self, connection: Connection) -> schema.Tables:
        schema.prepare(connection, self._settings, self._name)
        dimensions = seed.read_header(self._seed).dimensions if self._seed else 0
        tables = schema.find(connection, self._name, "") or self._make(connection, dimensions or self._probe())
        if tables.embedding != self.embedding or dimensions not in (0, tables.dimensions):
            fault = (
                f"holds vectors of model {tables.embedding!r} with {tables.dimensions} dimensions, this build has "
                f"{self.embedding!r} with {dimensions or tables.dimensions}; name another config.schema for it"
            )
            raise unavailable(self._name, fault, "index_mismatch")
        if self._seed is not None:
            load(connection, tables, self._seed, self._settings)
            tables = schema.find(connection, self._name, "") or tables
        if tables.ef_search and not self._settings.ef_search:
            self._pool.look_at(tables.ef_search)
        return tables

    def _make(self, connection: Connection, dimensions: int) -> schema.Tables:
        with connection.transaction():
            schema.lock(connection, 0)
            found = schema.find(connection, self._name, "")
            if found is not None:
                return found
            tables = schema.create(connection, self._name, self.embedding, dimensions, "", None)
            if self._seed is None:  # a seed brings its index when its rows are in
                schema.index(connection, tables, self._settings)
            return tables

    def _probe(self) -> int:
        """The length of the model's vectors; asked once in the life of a store that has no compiled documents."""
        (vector,) = self._host.get("embeddings", self.embedding).embed(["dimensions"], Context()).vectors
        return len(vector) // 4
