"""One file of an index and the queries it answers; a store asks one or several and joins what they found."""

from __future__ import annotations

import math
from array import array
from operator import mul
from typing import Any

import apsw

from lsbuild_plugins.sqlite_vec.serve import lists
from lsbuild_plugins.sqlite_vec.serve.format import Meta, encode, vector_value
from lsbuild_plugins.sqlite_vec.serve.words import words
from lsbuild_runtime.ports import Attribute, Hit, passage_id

Ranked = lists.Ranked
"""(row id of ``chunks``, score in 0..1), best first."""

Where = lists.Where
"""A condition over ``chunks c JOIN files f`` with its parameters, as `filters.condition` makes it."""

_ALLOWED = "SELECT c.id FROM chunks c JOIN files f ON f.id = c.file WHERE "


def near(db: apsw.Connection, meta: Meta, vector: bytes, limit: int, depth: int, where: Where | None) -> Ranked:
    """The ``depth`` rows nearest to a float32 vector, by cosine, 0 for negative ones.

    Of an int8 index the first ``2 * limit`` are ranked again by the unrounded query. A clustered index gives the nearest
    that it finds with the recall it was tuned for.
    """
    if meta.lists:
        return lists.near(db, meta, vector, limit, depth, where)
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


def worded(db: apsw.Connection, meta: Meta, query: str, depth: int, where: Where | None) -> Ranked:
    """The ``depth`` rows that hold most of the query's words: bm25 divided by the best bm25 that these words allow."""
    found = words(db, query, meta.chunks)
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


def hits(db: apsw.Connection, ranked: Ranked) -> list[Hit]:
    """The passages of ``ranked``, in its order; apsw.CorruptError when one is missing."""
    sql = (
        "SELECT c.chunk_id, f.file_id, f.filename, c.text, c.heading, c.start, c.end, c.line_start, c.line_end, f.id "
        "FROM chunks c JOIN files f ON f.id = c.file WHERE c.id = ?"
    )
    found = []
    for row, score in ranked:
        values: Any = db.execute(sql, (row,)).fetchone()
        if values is None:
            raise apsw.CorruptError(f"passage {row} is missing")
        chunk, file_id, filename, text, heading, start, end, first, last, file = values
        found.append(
            Hit(
                chunk_id=chunk or passage_id(filename, start, end, text),
                file_id=file_id,
                filename=filename,
                text=text,
                score=score,
                heading=heading,
                attributes=attributes(db, file),
                start=start,
                end=end,
                line_start=first,
                line_end=last,
            )
        )
    return found


def attributes(db: apsw.Connection, file: int) -> dict[str, Attribute]:
    """The attributes of the file with this row id, sorted by name."""
    rows = db.execute("SELECT key, type, value FROM attributes WHERE file = ? ORDER BY key", (file,))
    return {key: bool(value) if kind == "boolean" else value for key, kind, value in rows}


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
