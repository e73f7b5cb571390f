"""One search as one SQL statement: both rankings, their fusion and the passages come from one state of the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from psycopg import sql

from lsbuild_plugins.pgvector.serve.filters import Parameters
from lsbuild_plugins.pgvector.serve.schema import Tables
from lsbuild_plugins.pgvector.serve.values import Vector, attributes, words
from lsbuild_runtime.ports import Fusion, Hit
from lsbuild_runtime.postgres.pool import Connection

CANDIDATES = 50
"""How many rows each ranking contributes to a hybrid search, at least."""

EXACT_ROWS = 5000
"""Up to so many allowed passages are compared one by one: at 384 dimensions that takes 3 ms, and no index is as exact."""

MAX_WORDS = 64
"""A longer query is searched by its longest words, which are its rarest ones nearly always."""

K = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""


class Question(Struct, frozen=True):
    """What is asked. ``vector`` None leaves the ranking by meaning empty, ``query`` None that by words.

    ``where`` is a condition over ``p`` and ``f`` with its ``parameters``; ``fusion`` None says that there is one ranking.
    """

    query: str | None
    vector: bytes | None
    limit: int
    fusion: Fusion | None
    language: str
    where: sql.Composable | None = None
    parameters: Parameters = {}

    @property
    def depth(self) -> int:
        """Rows of each ranking."""
        return max(self.limit, CANDIDATES) if self.fusion else self.limit


def search(connection: Connection, tables: Tables, question: Question, *, exact: bool) -> list[Hit]:
    """The best passages, best first, ties in the order in which they were stored.

    The vector index is asked when more than EXACT_ROWS passages are allowed and ``exact`` does not rule it out.
    An index may miss rows behind a strict filter: when it finds fewer than were asked for, all are compared.
    """
    if question.vector is None or exact or _few(connection, tables, question):
        return _hits(_rows(connection, tables, question, _EXACT))
    rows = _rows(connection, tables, question, _INDEXED)
    if not rows or rows[0][-1] < question.depth:
        rows = _rows(connection, tables, question, _EXACT)
    return _hits(rows)


def is_small(connection: Connection, tables: Tables) -> bool:
    """Whether a store holds at most EXACT_ROWS passages."""
    few = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) rows").format(
        sql.Identifier(tables.passages), sql.Literal(EXACT_ROWS + 1)
    )
    return _number(connection.execute(few).fetchone()) <= EXACT_ROWS


_INDEXED = """SELECT p.id, 1 - (p.embedding <=> %(vector)s::vector) AS score FROM {from}
    ORDER BY p.embedding <=> %(vector)s::vector LIMIT %(depth)s"""
_EXACT = """SELECT id, 1 - distance AS score FROM
    (SELECT p.id, p.embedding <=> %(vector)s::vector AS distance FROM {from} OFFSET 0) all_rows
    ORDER BY distance, id LIMIT %(depth)s"""
"""OFFSET 0 keeps the planner from using the vector index."""

_NONE = "SELECT NULL::bigint AS id, NULL::float8 AS score WHERE false"

_WORDED = """SELECT h.id, sum(w.idf * h.rank) / (SELECT sum(idf) FROM weight) AS score
    FROM found h JOIN weight w USING (n) {allowed} GROUP BY h.id ORDER BY score DESC, h.id LIMIT %(depth)s"""

_WORDS = """term AS MATERIALIZED (
    SELECT quote_literal(lexeme)::tsquery AS query, row_number() OVER () AS n FROM
    (SELECT lexeme FROM unnest(to_tsvector(%(language)s::regconfig, %(words)s)) ORDER BY length(lexeme) DESC LIMIT {words}) t
), found AS MATERIALIZED (
    SELECT p.id, t.n, ts_rank('{{1,1,1,1}}', p.words, t.query)::float8 AS rank
    FROM term t JOIN {passages} p ON p.words @@ t.query
), total AS MATERIALIZED (
    SELECT CASE WHEN reltuples > {exact} THEN reltuples ELSE (SELECT count(*) FROM {passages}) END AS rows
    FROM pg_class WHERE oid = {name}::regclass
), weight AS MATERIALIZED (
    SELECT n, ln(1 + (greatest(rows - held, 0) + 0.5) / (held + 0.5)) AS idf
    FROM (SELECT t.n, count(f.id) AS held FROM term t LEFT JOIN found f USING (n) GROUP BY t.n) counts, total
), """
"""``found``: each passage with each word of the query it has. ``weight``: the words' inverse document frequency as BM25
has it, over the whole store, so that a filter moves no score."""

_SHARE = "least(1, greatest(0, score))"
_PLACED = "({k} + 1.0) / ({k} + place)"
_FUSED = """SELECT id, sum(weight * worth) / %(weights)s::float8 AS score FROM (
    SELECT id, {worth} AS worth, %(near)s::float8 AS weight FROM near_places UNION ALL
    SELECT id, {worth}, %(worded)s::float8 FROM worded_places
) places WHERE weight > 0 GROUP BY id ORDER BY score DESC, id LIMIT %(limit)s"""

_STATEMENT = """WITH {words} near AS MATERIALIZED ({near}), worded AS MATERIALIZED ({worded}),
near_places AS (SELECT id, {share} AS score, row_number() OVER (ORDER BY score DESC, id) AS place FROM near),
worded_places AS (SELECT id, {share} AS score, row_number() OVER (ORDER BY score DESC, id) AS place FROM worded),
best AS MATERIALIZED ({best})
SELECT p.chunk_id, f.file_id, f.filename, p.text, b.score, p.heading, f.attributes::text, p.start_at, p.end_at,
    p.line_start, p.line_end, (SELECT count(*) FROM near)
FROM best b JOIN {passages} p USING (id) JOIN {files} f ON f.id = p.file ORDER BY b.score DESC, b.id"""


def _rows(connection: Connection, tables: Tables, question: Question, near: str) -> Sequence[tuple[Any, ...]]:
    names = {"passages": sql.Identifier(tables.passages), "files": sql.Identifier(tables.files)}
    source = sql.SQL("{passages} p").format(**names)
    allowed: sql.Composable = sql.SQL("")
    if question.where is not None:
        source = sql.SQL("{passages} p JOIN {files} f ON f.id = p.file WHERE {where}").format(
            **names, where=question.where
        )
        allowed = sql.SQL("JOIN {passages} p ON p.id = h.id JOIN {files} f ON f.id = p.file WHERE {where}").format(
            **names, where=question.where
        )
    parts: dict[str, sql.Composable] = {
        "words": sql.SQL(""),
        "near": sql.SQL(near if question.vector is not None else _NONE).format(**{"from": source}),
        "worded": sql.SQL(_NONE),
        "best": sql.SQL("SELECT id, score FROM near UNION ALL SELECT id, score FROM worded"),
    }
    if question.query is not None:
        parts["worded"] = sql.SQL(_WORDED).format(allowed=allowed)
        parts["words"] = sql.SQL(_WORDS).format(
            **names, name=sql.Literal(tables.passages), words=sql.Literal(MAX_WORDS), exact=sql.Literal(EXACT_ROWS)
        )
    fusion = question.fusion or Fusion()
    if question.fusion:
        worth = sql.SQL("score" if fusion.ranker == "weighted" else _PLACED).format(k=sql.Literal(K))
        parts["best"] = sql.SQL(_FUSED).format(worth=worth)
    statement = sql.SQL(_STATEMENT).format(**names, **parts, share=sql.SQL(_SHARE))
    parameters: Parameters = {
        **question.parameters,
        "depth": question.depth,
        "limit": question.limit,
        "language": question.language,
        "near": fusion.vector,
        "worded": fusion.keyword,
        "weights": fusion.vector + fusion.keyword,
    }
    if question.query is not None:
        parameters["words"] = words(question.query)
    if question.vector is not None:
        parameters["vector"] = Vector(question.vector)
    return connection.execute(statement, parameters).fetchall()


def _few(connection: Connection, tables: Tables, question: Question) -> bool:
    """Whether a filter allows no more than EXACT_ROWS passages."""
    if question.where is None:
        return False
    few = sql.SQL("SELECT count(*) FROM (SELECT FROM {} p JOIN {} f ON f.id = p.file WHERE {} LIMIT {}) rows").format(
        sql.Identifier(tables.passages), sql.Identifier(tables.files), question.where, sql.Literal(EXACT_ROWS + 1)
    )
    return _number(connection.execute(few, question.parameters).fetchone()) <= EXACT_ROWS


def _number(row: tuple[Any, ...] | None) -> int:
    return int(row[0]) if row else 0


def _hits(rows: Sequence[tuple[Any, ...]]) -> list[Hit]:
    return [
        Hit(
            chunk_id=chunk,
            file_id=file_id,
            filename=filename,
            text=text,
            score=min(1.0, score) if score > 0 else 0.0,  # a vector of zeros has no cosine: NaN is not above 0 either
            heading=heading,
            attributes=attributes(json),
            start=start,
            end=end,
            line_start=first,
            line_end=last,
        )
        for chunk, file_id, filename, text, score, heading, json, start, end, first, last, _ in rows
    ]
