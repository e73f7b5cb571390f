"""Search by meaning in a clustered index: the nearest lists, the best of their rows, those ranked again; reads `placed` only.

Everything up to the last step is integer arithmetic inside SQLite, so the same query finds the same rows on every machine.
"""

# ruff: noqa: S608  (statements are joined from constants; what a user sends is always a parameter)
from __future__ import annotations

import heapq
import math
from array import array
from operator import mul
from typing import Any

import apsw
import msgspec

from lsbuild_plugins.sqlite_vec.serve.format import RESIDUAL, Meta, encode, residual

Ranked = list[tuple[int, float]]
"""(row id of ``chunks``, score), best first."""

Where = tuple[str, tuple[Any, ...]]
"""A condition over ``chunks c JOIN files f`` with its parameters, as `filters.condition` makes it."""

TUNED_FOR = 10
"""``Meta.probes`` holds its recall for so many passages; more of them lie in more lists."""

_NEARLY_ALL = 0.9
"""A filter that leaves this share of the rows is no reason to look farther."""

_FEW = 0.3
"""A smaller share of the first lists is a reason to ask how many rows are allowed at all."""

CANDIDATES = 50
"""Rows, at least, that L1 hands to L2: the ten nearest of 24,000 real passages, and of clusters, were all among them. Twice as
many behind a filter: of what is far away L1 is a worse judge."""


def near(db: apsw.Connection, meta: Meta, vector: bytes, limit: int, depth: int, where: Where | None) -> Ranked:
    """The ``depth`` rows nearest to a float32 vector, by the cosine with the unrounded query."""
    query = encode(vector, "int8", meta.scale)
    probes = min(meta.lists, math.ceil(meta.probes * math.sqrt(max(1.0, limit / TUNED_FOR))))
    wanted = max(2 * limit, depth)
    kept = wanted if meta.scan == "l2" and not meta.unrounded else max(CANDIDATES, 2 * wanted)
    if where:
        places = _allowed(db, meta, query, probes, 2 * kept, where)
    else:
        values = (query, 2 * probes + 16, query, probes, query, kept)
        places = [place for (place,) in db.execute(_SCAN[meta.scan], values)]
        if not places:
            raise apsw.CorruptError("no list holds any vector")
    if meta.unrounded:
        return _exactly(db, vector, places, depth)
    return _ranked(db, meta, vector, query, places, wanted)[:depth]


_BY_COSINE = "ORDER BY vec_distance_cosine(vec_int8(centroid), vec_int8(?)), id"
_BY_L1 = "SELECT id FROM lists ORDER BY vec_distance_l1(vec_int8(centroid), vec_int8(?)), id LIMIT ?"
_NEAREST = f"SELECT first, last FROM lists WHERE id IN ({_BY_L1}) {_BY_COSINE} LIMIT ?"
"""The lists nearest to a query by cosine, of twice as many that L1 finds in a third of the time."""

_ORDER = f"SELECT id, last - first + 1 FROM lists {_BY_COSINE}"


def _distance(scan: str, row: str = "c") -> str:
    return f"vec_distance_{scan}(vec_int8({row}.embedding), vec_int8(?))"


_SCAN = {
    scan: f"SELECT c.place FROM ({_NEAREST}) l CROSS JOIN placed c ON c.place BETWEEN l.first AND l.last "
    f"ORDER BY {_distance(scan)}, c.place LIMIT ?"
    for scan in ("l1", "l2")
}
"""One statement, so that nothing is opened once for each list."""


def _ranked(db: apsw.Connection, meta: Meta, vector: bytes, query: bytes, places: list[int], depth: int) -> Ranked:
    """The best ``depth`` of ``places`` by L2 of int8, ranked by the cosine of the unrounded query and the int8 passage.

    SQLite gives distances, not products: from those to the query, to the rest of the query that rounding left out, and to
    nothing follow both products and the passage's length.
    """
    rest, nothing = residual(vector, query, meta.scale), bytes(len(query))
    found: list[Any] = db.execute(_MEASURED, (rest, nothing, query, _json(places), depth)).fetchall()
    own, left = _square(query), _square(rest)
    ranked = []
    for chunk, to_query, to_rest, length in found:
        square = length * length
        product = (own + square - to_query * to_query) / 2 + (left + square - to_rest * to_rest) / 2 / RESIDUAL
        ranked.append((chunk, min(1.0, max(0.0, product / ((meta.scale * length) or 1.0)))))
    return sorted(ranked, key=lambda pair: (-pair[1], pair[0]))


def _exactly(db: apsw.Connection, vector: bytes, places: list[int], depth: int) -> Ranked:
    """The best ``depth`` of ``places`` by the cosine of both unrounded vectors."""
    sql = (
        "SELECT c.id, vec_distance_l2(u.embedding, ?) AS d FROM json_each(?) j "
        "CROSS JOIN unrounded u ON u.place = j.value CROSS JOIN placed c ON c.place = j.value ORDER BY d, c.id LIMIT ?"
    )
    found: list[Any] = db.execute(sql, (vector, _json(places), depth)).fetchall()
    return [(row, min(1.0, max(0.0, 1.0 - distance * distance / 2))) for row, distance in found]


_MEASURED = (
    "SELECT id, d, vec_distance_l2(vec_int8(embedding), vec_int8(?)), vec_distance_l2(vec_int8(embedding), vec_int8(?)) "
    "FROM (SELECT c.id, c.embedding, vec_distance_l2(vec_int8(c.embedding), vec_int8(?)) AS d "
    "FROM json_each(?) j CROSS JOIN placed c ON c.place = j.value ORDER BY d, c.id LIMIT ?)"
)


def _square(code: bytes) -> int:
    values = array("b", code)
    return sum(map(mul, values, values))


def _allowed(db: apsw.Connection, meta: Meta, query: bytes, probes: int, kept: int, where: Where) -> list[int]:
    """The best places among the rows that ``where`` allows.

    A search without a filter sees as many rows as ``probes`` lists hold; what a filter leaves is as dense around the query
    as those rows are, only thinner, so lists are read until as many allowed rows were seen: half of the rows, twice the
    lists. What a filter leaves may also lie elsewhere (one language, one team): then lists are read until the last ones
    brought nothing better. Where few are allowed they are all compared instead: up to the number at which both ways cost
    the same.
    """
    enough = probes * meta.chunks / meta.lists
    order: list[Any] = db.execute(_ORDER, (query,)).fetchall()
    best: list[Any] = []
    done = seen = rows = 0
    first = step = math.ceil(probes / 4)
    settled = False
    while done < meta.lists and not (settled and seen >= enough):
        part = order[done : done + step]
        found = _read(db, meta, query, [row for row, _ in part], where)
        before = best[:TUNED_FOR]
        best = heapq.nsmallest(kept, best + found)
        done, seen, rows = done + step, seen + len(found), rows + sum(size for _, size in part)
        if done == first and seen < _FEW * rows:
            few = _few(db, meta, query, math.ceil(math.sqrt(enough * meta.chunks)), kept, where)
            if few is not None:
                return few
        settled = best[:TUNED_FOR] == before or seen >= _NEARLY_ALL * rows
        step = done if seen < enough else max(1, done // 2)
    return [place for _, place in best]


def _read(db: apsw.Connection, meta: Meta, query: bytes, lists: list[int], where: Where) -> list[Any]:
    """(distance, place) of the allowed rows of these lists."""
    # A condition knows passages as ``chunks c``. All that it may ask of them but the heading stands in ``placed`` too.
    heading = "c.heading" in where[0]
    rows = "placed p ON p.place BETWEEN l.first AND l.last CROSS JOIN chunks c ON c.id = p.id"
    rows = rows if heading else "placed c ON c.place BETWEEN l.first AND l.last"
    name = "p" if heading else "c"
    sql = (
        f"SELECT {_distance(meta.scan, name)}, {name}.place FROM json_each(?) j CROSS JOIN lists l ON l.id = j.value "
        f"CROSS JOIN {rows} CROSS JOIN files f ON f.id = c.file WHERE {where[0]}"
    )
    return db.execute(sql, (query, _json(lists), *where[1])).fetchall()


def _few(db: apsw.Connection, meta: Meta, query: bytes, most: int, kept: int, where: Where) -> list[int] | None:
    """The best places of all that ``where`` allows; None when these are more than ``most``."""
    sql = f"SELECT c.id FROM chunks c JOIN files f ON f.id = c.file WHERE {where[0]} LIMIT ?"
    allowed = [row for (row,) in db.execute(sql, (*where[1], most + 1))]
    if len(allowed) > most:
        return None
    sql = (
        "SELECT c.place FROM json_each(?) j CROSS JOIN placed c ON c.id = j.value "
        f"ORDER BY {_distance(meta.scan)}, c.place LIMIT ?"
    )
    return [place for (place,) in db.execute(sql, (_json(allowed), query, kept))]


def _json(places: list[int]) -> str:
    return msgspec.json.encode(places).decode()
