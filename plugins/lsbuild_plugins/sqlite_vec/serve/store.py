"""A compiled index as the VectorIO port: search by meaning, by words, or by both; it never writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsbuild_plugins.sqlite_vec.serve import segment
from lsbuild_plugins.sqlite_vec.serve.connect import Pool, read_meta
from lsbuild_plugins.sqlite_vec.serve.filters import condition
from lsbuild_plugins.sqlite_vec.serve.format import FILE_NAME, Meta
from lsbuild_plugins.sqlite_vec.serve.fuse import fuse
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import ManifestError, Service
from lsbuild_runtime.ports import Fusion, Hit, Host, SearchMode, StoreInfo
from lsbuild_runtime.search import check, check_fits, fusion_of, query_vector

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
        self._fusion = fusion_of(service)
        self._pool = Pool(path)
        self._host = host

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
        fusion: Fusion | None = None,
    ) -> list[Hit]:
        """The best passages, best first, ties in the order of the documents. ApiError 400 names the faulty field."""
        meta = self._meta
        query = query.encode("utf-8", "replace").decode()  # a lone surrogate from JSON has no UTF-8 form
        mode = self._mode if mode is None else mode
        check(query, limit, mode, threshold)
        where = condition(filters) if filters else None
        vector = None if mode == "keyword" else query_vector(self._host, meta.embedding, query, mode, context)
        if vector is not None:
            check_fits(vector, meta.dimensions, self._name, meta.embedding)
        context.check()
        with context.watch.span("vector_store.search", store=self._name, mode=mode), self._pool.connection() as db:
            depth = limit if mode != "hybrid" else max(limit, CANDIDATES)
            near = [] if vector is None else segment.near(db, meta, vector, limit, depth, where)
            worded = [] if mode == "vector" else segment.worded(db, meta, query, depth, where)
            ranked = fuse(near, worded, fusion or self._fusion) if mode == "hybrid" else near or worded
            return segment.hits(db, [(row, score) for row, score in ranked[:limit] if score >= threshold])


def checked_meta(path: Path, service: Service) -> Meta:
    """What the index at ``path`` says about itself; ManifestError when it was built for a model that is not there."""
    meta = read_meta(path)
    if f"embeddings/{meta.embedding}" not in service.needs:
        needs = ", ".join(service.needs) or "no model"
        fault = f"the index was built with {meta.embedding!r}, the manifest names {needs}"
        raise ManifestError(f"{path}: {fault}; build the artifact again")
    return meta
