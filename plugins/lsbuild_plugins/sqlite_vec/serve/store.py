"""A compiled index as the VectorIO port: search by meaning, by words, or by both; it never writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from lsbuild_plugins.sqlite_vec.serve import segment
from lsbuild_plugins.sqlite_vec.serve.connect import Pool, read_meta
from lsbuild_plugins.sqlite_vec.serve.filters import condition
from lsbuild_plugins.sqlite_vec.serve.format import FILE_NAME, Meta
from lsbuild_plugins.sqlite_vec.serve.fuse import fuse
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import ManifestError, Service
from lsbuild_runtime.ports import Embeddings, Hit, Host, SearchMode, StoreInfo

MAX_LIMIT = 1000

CANDIDATES = 50
"""How many rows each ranking contributes to a hybrid search, at least."""


class Store:
    """A search runs on one pooled connection, so threads search side by side.

    Scores lie in 0..1. ``vector``: the cosine of query and passage, 0 for negative ones. ``keyword``: bm25 divided by
    the best bm25 that the query's words allow, a passage's share of what was asked for. ``hybrid``: reciprocal rank
    fusion of both, as share of the best possible (see `fuse`); a query that is too long for the model, such as a whole
    page that a user pasted, is then found by its words alone.
    """

    def __init__(self, service: Service, root: Path, host: Host) -> None:
        path = root / service.path / FILE_NAME
        self._meta = checked_meta(path, service)
        self._name = service.name
        self._mode: SearchMode = service.config.get("search", "hybrid")
        self._pool = Pool(path)
        self._encoder = Encoder(host, service.name, self._meta.embedding, self._meta.dimensions)

    def info(self) -> StoreInfo:
        """Counts; ``bytes`` is the size of the documents."""
        meta = self._meta
        return StoreInfo(meta.files, meta.chunks, meta.bytes, meta.dimensions, meta.embedding)

    def search(
        self,
        query: str,
        context: Context,
        *,
        limit: int = 10,
        mode: SearchMode | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float = 0.0,
        weights: tuple[float, float] | None = None,
    ) -> list[Hit]:
        """The best passages, best first, ties in the order of the documents. ApiError 400 names the faulty field."""
        query = query.encode("utf-8", "replace").decode()  # a lone surrogate from JSON has no UTF-8 form
        mode = self._mode if mode is None else mode
        check(query, limit, mode, threshold)
        where = condition(filters) if filters else None
        vector = None if mode == "keyword" else self._encoder.vector(query, mode, context)
        context.check()
        with context.watch.span("vector_store.search", store=self._name, mode=mode), self._pool.connection() as db:
            depth = limit if mode != "hybrid" else max(limit, CANDIDATES)
            near = [] if vector is None else segment.near(db, self._meta, vector, limit, depth, where)
            worded = [] if mode == "vector" else segment.worded(db, self._meta, query, depth, where)
            if mode == "hybrid":
                ranked = fuse([row for row, _ in near], [row for row, _ in worded], weights=weights)
            else:
                ranked = near or worded
            return segment.hits(db, [(row, score) for row, score in ranked[:limit] if score >= threshold])


class Encoder:
    """The embedding model of a store as its searches use it; it is opened by the first search that needs it."""

    def __init__(self, host: Host, store: str, embedding: str, dimensions: int) -> None:
        self._host = host
        self._store = store
        self._embedding = embedding
        self._dimensions = dimensions

    def vector(self, query: str, mode: SearchMode, context: Context) -> bytes | None:
        """The query's float32 vector; None for a hybrid search whose query is too long for the model.

        ApiError 503 when the model's vectors are not those of the index.
        """
        model: Embeddings = self._host.get("embeddings", self._embedding)
        try:
            (vector,) = model.embed([query], context).vectors
        except ApiError as error:
            if error.code != "context_length_exceeded":
                raise
            if mode == "hybrid":
                return None
            raise ApiError(400, f"the query is too long: {error.message}", param="query", code=error.code) from error
        dimensions = len(vector) // 4
        if dimensions != self._dimensions:
            fault = f"its index has {self._dimensions} dimensions, model {self._embedding!r} gives {dimensions}"
            message = f"vector store {self._store!r} does not fit its model: {fault}; build the artifact again"
            raise ApiError(503, message, type="server_error", code="index_mismatch")
        return vector


def checked_meta(path: Path, service: Service) -> Meta:
    """What the index at ``path`` says about itself; ManifestError when it was built for a model that is not there."""
    meta = read_meta(path)
    if f"embeddings/{meta.embedding}" not in service.needs:
        needs = ", ".join(service.needs) or "no model"
        fault = f"the index was built with {meta.embedding!r}, the manifest names {needs}"
        raise ManifestError(f"{path}: {fault}; build the artifact again")
    return meta


def check(query: str, limit: int, mode: str, threshold: float) -> None:
    """ApiError 400 names the faulty argument."""
    if not query.strip():
        raise ApiError(400, "query is empty", param="query")
    if not 1 <= limit <= MAX_LIMIT:
        raise ApiError(400, f"the limit is {limit}; it must be between 1 and {MAX_LIMIT}", param="max_num_results")
    if mode not in get_args(SearchMode):
        raise ApiError(
            400, f"search mode {mode!r} is not one of {', '.join(get_args(SearchMode))}", param="search_mode"
        )
    if not 0 <= threshold <= 1:
        raise ApiError(400, f"score threshold {threshold} is not in 0..1", param="ranking_options.score_threshold")
