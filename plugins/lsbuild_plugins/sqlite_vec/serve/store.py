"""A compiled index as the VectorIO port: search by meaning, by words, or by both; it never writes."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from operator import mul
from pathlib import Path
from typing import Any, get_args

import apsw

from lsbuild_plugins.sqlite_vec.serve.connect import Pool, read_meta
from lsbuild_plugins.sqlite_vec.serve.filters import condition
from lsbuild_plugins.sqlite_vec.serve.format import FILE_NAME, encode, vector_value
from lsbuild_plugins.sqlite_vec.serve.fuse import fuse
from lsbuild_plugins.sqlite_vec.serve.words import words
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import ManifestError, Service
from lsbuild_runtime.ports import Embeddings, Hit, Host, SearchMode, StoreInfo

MAX_LIMIT = 1000

CANDIDATES = 50
"""How many rows each ranking contributes to a hybrid search, at least."""

Ranked = list[tuple[int, float]]
"""(row id of ``chunks``, score), best first."""

_ALLOWED = "SELECT c.id FROM chunks c JOIN files f ON f.id = c.file WHERE "


class Store:
    """A search runs on one pooled connection, so threads search side by side.

    Scores lie in 0..1. ``vector``: the cosine of query and passage, 0 for negative ones. ``keyword``: bm25 divided by
    the best bm25 that the query's words allow, a passage's share of what was asked for. ``hybrid``: reciprocal rank
    fusion of both, as share of the best possible (see `fuse`); a query that is too long for the model, such as a whole
    page that a user pasted, is then found by its words alone.
    """

    def __init__(self, service: Service, root: Path, host: Host) -> None:
        path = root / service.path / FILE_NAME
        self._meta = read_meta(path)
        self._name = service.name
        self._mode: SearchMode = service.config.get("search", "hybrid")
        self._host = host
        if f"embeddings/{self._meta.embedding}" not in service.needs:
            needs = ", ".join(service.needs) or "no model"
            fault = f"the index was built with {self._meta.embedding!r}, the manifest names {needs}"
            raise ManifestError(f"{path}: {fault}; build the artifact again")
        self._pool = Pool(path)

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
    ) -> list[Hit]:
        """The best passages, best first, ties in the order of the documents. ApiError 400 names the faulty field."""
        query = query.encode("utf-8", "replace").decode()  # a lone surrogate from JSON has no UTF-8 form
        mode = self._mode if mode is None else mode
        _check(query, limit, mode, threshold)
        where = condition(filters) if filters else None
        vector = None if mode == "keyword" else self._embed(query, mode, context)
        context.check()
        with context.watch.span("vector_store.search", store=self._name, mode=mode), self._pool.connection() as db:
            depth = limit if mode != "hybrid" else max(limit, CANDIDATES)
            near = [] if vector is None else self._by_vector(db, vector, limit, depth, where)
            worded = [] if mode == "vector" else self._by_words(db, query, depth, where)
            ranked = fuse([row for row, _ in near], [row for row, _ in worded]) if mode == "hybrid" else near or worded
            return _hits(db, [(row, score) for row, score in ranked[:limit] if score >= threshold])

    def _embed(self, query: str, mode: SearchMode, context: Context) -> bytes | None:
        """The query's float32 vector; None for a hybrid search whose query is too long for the model.

        ApiError 503 when the model's vectors are not those of the index.
        """
        model: Embeddings = self._host.get("embeddings", self._meta.embedding)
        try:
            (vector,) = model.embed([query], context).vectors
        except ApiError as error:
            if error.code != "context_length_exceeded":
                raise
            if mode == "hybrid":
                return None
            raise ApiError(400, f"the query is too long: {error.message}", param="query", code=error.code) from error
        dimensions = len(vector) // 4
        if dimensions != self._meta.dimensions:
            fault = (
                f"its index has {self._meta.dimensions} dimensions, model {self._meta.embedding!r} gives {dimensions}"
            )
            message = f"vector store {self._name!r} does not fit its model: {fault}; build the artifact again"
            raise ApiError(503, message, type="server_error", code="index_mismatch")
        return vector

    def _by_vector(self, db: apsw.Connection, vector: bytes, limit: int, depth: int, where: _Where) -> Ranked:
        """The ``depth`` nearest rows. Of an int8 index the first ``2 * limit`` are ranked again by the unrounded query."""
        meta = self._meta
        sql = f"SELECT rowid, distance FROM vectors WHERE embedding MATCH {vector_value(meta.encoding)} AND k = ?"  # noqa: S608
        values: tuple[Any, ...] = (encode(vector, meta.encoding, meta.scale), max(2 * limit, depth))
        if where:
            sql += f" AND rowid IN ({_ALLOWED}{where[0]})"
            values += where[1]
        found: list[Any] = db.execute(sql, values).fetchall()
        rows = sorted(found, key=lambda pair: (pair[1], pair[0]))
        cosines = [(row, 1.0 - (distance / meta.scale) ** 2 / 2) for row, distance in rows]
        if meta.encoding == "int8":
            cosines[: 2 * limit] = _again(db, vector, [row for row, _ in rows[: 2 * limit]])
        return [(row, min(1.0, max(0.0, cosine))) for row, cosine in cosines[:depth]]

    def _by_words(self, db: apsw.Connection, query: str, depth: int, where: _Where) -> Ranked:
        found = words(db, query, self._meta.chunks)
        if not found.expression:
            return []
        sql = "SELECT rowid, rank FROM words WHERE words MATCH ?"
        values: tuple[Any, ...] = (found.expression,)
        if where:
            # The + keeps SQLite from asking FTS5 once for every allowed row.
            sql += f" AND +rowid IN ({_ALLOWED}{where[0]})"
            values += where[1]
        sql += " ORDER BY rank, rowid LIMIT ?"
        rows = db.execute(sql, (*values, depth))
        return [(row, min(1.0, max(0.0, -rank / found.best))) for row, rank in rows]


_Where = tuple[str, tuple[Any, ...]] | None


def _again(db: apsw.Connection, vector: bytes, rows: list[int]) -> Ranked:
    """Rows by the cosine of the float32 query and the int8 passage: half of the rounding error of the scan is gone."""
    query = array("f", vector)
    ranked = []
    for row in rows:
        found: Any = db.execute("SELECT embedding FROM vectors WHERE rowid = ?", (row,)).get
        if found is None:
            raise apsw.CorruptError(f"vector {row} is missing")
        passage = array("b", found)
        ranked.append((row, sum(map(mul, query, passage)) / (math.sqrt(sum(map(mul, passage, passage))) or 1.0)))
    return sorted(ranked, key=lambda pair: (-pair[1], pair[0]))


def _check(query: str, limit: int, mode: str, threshold: float) -> None:
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


def _hits(db: apsw.Connection, ranked: Ranked) -> list[Hit]:
    sql = (
        "SELECT c.chunk_id, f.file_id, f.filename, c.text, c.heading, c.start, c.end, c.line_start, c.line_end, f.id "
        "FROM chunks c JOIN files f ON f.id = c.file WHERE c.id = ?"
    )
    hits = []
    for row, score in ranked:
        found: Any = db.execute(sql, (row,)).fetchone()
        if found is None:
            raise apsw.CorruptError(f"passage {row} is missing")
        chunk, file_id, filename, text, heading, start, end, first, last, file = found
        hits.append(
            Hit(
                chunk_id=chunk,
                file_id=file_id,
                filename=filename,
                text=text,
                score=score,
                heading=heading,
                attributes=_attributes(db, file),
                start=start,
                end=end,
                line_start=first,
                line_end=last,
            )
        )
    return hits


def _attributes(db: apsw.Connection, file: int) -> dict[str, str | int | float | bool]:
    rows = db.execute("SELECT key, type, value FROM attributes WHERE file = ? ORDER BY key", (file,))
    return {key: bool(value) if kind == "boolean" else value for key, kind, value in rows}
