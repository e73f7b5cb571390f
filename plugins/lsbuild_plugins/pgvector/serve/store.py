"""One store of the database as the ports VectorIO and MutableVectorIO: search by meaning, by words, or by both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lsbuild_plugins.pgvector.serve import documents, search
from lsbuild_plugins.pgvector.serve.connect import Pool
from lsbuild_plugins.pgvector.serve.filters import condition
from lsbuild_plugins.pgvector.serve.schema import INDEXED_DIMENSIONS, Tables
from lsbuild_plugins.pgvector.serve.settings import Settings
from lsbuild_plugins.pgvector.serve.values import stored
from lsbuild_runtime.filters import clean
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.mutable import StoredFile
from lsbuild_runtime.ports import Attribute, Fusion, Hit, Host, Passage, SearchMode, StoreInfo
from lsbuild_runtime.postgres.pool import Connection
from lsbuild_runtime.search import check, check_fits, query_vector

SIZE_AGE_S = 60.0
"""How long it is believed that a store is small."""


class Store:
    """A store that is searched. A search is one statement on a pooled connection, so threads search side by side.

    Scores lie in 0..1. ``vector``: the cosine of query and passage, 0 for negative ones. ``keyword``: the share of the
    query's words that a passage has, each weighed by its rarity and by how often it stands there (1 / 1.64 for once,
    more for each further time). ``hybrid``: reciprocal rank fusion of both, as share of the best possible; a query that
    is too long for the model is then found by its words alone.

    ``tables`` is asked for the store's place with a connection, each time: it makes the store on first use.
    """

    def __init__(
        self,
        name: str,
        embedding: str,
        pool: Pool,
        settings: Settings,
        host: Host,
        tables: Callable[[Connection], Tables],
    ) -> None:
        self._name = name
        self._embedding = embedding
        self._pool = pool
        self._settings = settings
        self._host = host
        self._tables = tables
        self._small = (0.0, True)

    def info(self) -> StoreInfo:
        """Counts; ``bytes`` is the size of the documents."""
        with self._opened() as (connection, tables):
            statement = f"SELECT count(*), coalesce(sum(passages), 0), coalesce(sum(bytes), 0) FROM {tables.files}"  # noqa: S608
            files, chunks, size = connection.execute(statement).fetchone() or (0, 0, 0)
            return StoreInfo(files, int(chunks), int(size), tables.dimensions, tables.embedding)

    def search(
        self,
        query: str,
        context: Context,
        *,
        limit: int = 10,
        mode: SearchMode | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float = 0.0,
        fusion: Fusion | None = None,
    ) -> list[Hit]:
        """The best passages, best first. ApiError 400 names the faulty field."""
        query = clean(query)
        mode = self._settings.search if mode is None else mode
        check(query, limit, mode, threshold)
        where, parameters = condition(filters) if filters else (None, {})
        vector = None if mode == "keyword" else query_vector(self._host, self._embedding, query, mode, context)
        context.check()
        question = search.Question(
            query=None if mode == "vector" else query,
            vector=vector,
            limit=limit,
            fusion=(fusion or self._settings.fusion) if mode == "hybrid" else None,
            language=self._settings.language,
            where=where,
            parameters=parameters,
        )
        with (
            context.watch.span("vector_store.search", store=self._name, mode=mode),
            self._opened() as (connection, tables),
        ):
            if vector is not None:
                check_fits(vector, tables.dimensions, self._name, self._embedding)
            exact = self._is_exact(tables) or self._is_small(connection, tables)
            hits = search.search(connection, tables, question, exact=exact)
        return [hit for hit in hits if hit.score >= threshold]

    @contextmanager
    def _opened(self) -> Iterator[tuple[Connection, Tables]]:
        with self._pool.connection() as connection:
            yield connection, self._tables(connection)

    def _is_exact(self, tables: Tables) -> bool:
        settings = self._settings
        unindexed = settings.index == "none" or tables.dimensions > INDEXED_DIMENSIONS
        return unindexed or (not settings.ef_search and (tables.ef_search == 0 or settings.min_recall == 1))

    def _is_small(self, connection: Connection, tables: Tables) -> bool:
        """A store that was small stays so for a minute: exact is right at any size, only slower."""
        until, small = self._small
        if time.monotonic() > until:
            small = search.is_small(connection, tables)
            self._small = (time.monotonic() + SIZE_AGE_S, small)
        return small


class MutableStore(Store):
    """A store that takes documents. Each change is one transaction; it returns when PostgreSQL has it on the disk."""

    def put(self, document: StoredFile, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
        """See MutableVectorIO."""
        file_id = stored(document.file_id)
        with self._changing(file_id, passages, vectors) as (connection, tables):
            documents.delete(connection, tables, file_id)
            row = documents.insert(connection, tables, document)
            documents.fill(connection, tables, row, passages, vectors, self._settings.language)

    def add(self, document: StoredFile, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
        """See MutableVectorIO."""
        with self._changing(stored(document.file_id), passages, vectors) as (connection, tables):
            row = documents.insert(connection, tables, document)
            documents.fill(connection, tables, row, passages, vectors, self._settings.language)

    def remove(self, file_id: str) -> bool:
        """See MutableVectorIO."""
        with self._changing(stored(file_id)) as (connection, tables):
            return documents.delete(connection, tables, stored(file_id))

    def set_attributes(self, file_id: str, attributes: Mapping[str, Attribute]) -> bool:
        """See MutableVectorIO."""
        with self._opened() as (connection, tables):
            return documents.relabel(connection, tables, stored(file_id), attributes)

    def file(self, file_id: str) -> StoredFile | None:
        """See MutableVectorIO."""
        with self._opened() as (connection, tables):
            return documents.file(connection, tables, stored(file_id))

    def files(self) -> Sequence[StoredFile]:
        """See MutableVectorIO."""
        with self._opened() as (connection, tables):
            return documents.files(connection, tables)

    def passages(self, file_id: str) -> Sequence[Passage]:
        """See MutableVectorIO."""
        with self._opened() as (connection, tables):
            return documents.passages(connection, tables, stored(file_id))

    def compact(self, context: Context) -> int:  # noqa: ARG002 - PostgreSQL's autovacuum does it
        """See MutableVectorIO."""
        return 0

    @contextmanager
    def _changing(
        self, file_id: str, passages: Sequence[Passage] = (), vectors: Sequence[bytes] = ()
    ) -> Iterator[tuple[Connection, Tables]]:
        """A transaction that owns the document; ApiError 400 before it when vectors do not fit."""
        with self._opened() as (connection, tables):
            self._fit(passages, vectors, tables)
            with connection.transaction():
                documents.own(connection, tables, file_id)
                yield connection, tables

    def _fit(self, passages: Sequence[Passage], vectors: Sequence[bytes], tables: Tables) -> None:
        if len(passages) != len(vectors):
            raise ApiError(400, f"{len(passages)} passages with {len(vectors)} vectors", code="invalid_vectors")
        for vector in vectors:
            if len(vector) != tables.dimensions * 4:
                fault = (
                    f"a vector of {len(vector) // 4} dimensions; vector store {self._name!r} has {tables.dimensions}"
                )
                raise ApiError(400, f"{fault}, of model {tables.embedding!r}", code="dimension_mismatch")
