"""Search by meaning in a clustered index: the nearest lists, the best of their rows, those ranked again; reads `placed` only.

Everything up to the last step is integer arithmetic inside SQLite, so the same query finds the same rows on every machine.
"""

from __future__ import annotations

import heapq
import math
from array import array
from operator import mul
from typing import Any

import apsw
import msgspec

from lsbuild_plugins.sqlite_vec.serve.format import Meta, Scan, encode

Ranked = list[tuple[int, float]]
"""(row id of ``chunks``, score), best first."""

Where = tuple[str, tuple[Any, ...]]
"""A condition over ``chunks c JOIN files f`` with its parameters, as `filters.condition` makes it."""

TUNED_FOR = 10
"""``Meta.probes`` holds its recall for so many passages; more of them lie in more lists."""

CANDIDATES = 100
"""Rows, at least, that L1 hands to L2: with 50 the ten nearest of 30,000 real passages were all among them."""

CENTROIDS_KEPT = 4
"""Lists that L1 hands to L2, as a multiple of those wanted."""


def near(db: apsw.Connection, meta: Meta, vector: bytes, limit: int, depth: int, where: Where | None) -> Ranked:
    """The ``depth`` rows nearest to a float32 vector, by cosine; the first ``2 * limit`` by the unrounded query."""
    query = encode(vector, "int8", meta.scale)
    probes = min(meta.lists, math.ceil(meta.probes * math.sqrt(max(1.0, limit / TUNED_FOR))))
    wanted = max(2 * limit, depth)
    kept = wanted if meta.scan == "l2" else max(CANDIDATES, 2 * wanted)
    if where:
        places = _allowed(db, meta, query, probes, kept, where)
    else:
        places = [place for (place,) in db.execute(_scan(meta.scan), (query, CENTROIDS_KEPT * probes, query, probes, query, kept))]
    return _ranked(db, meta, vector, query, places, 2 * limit, depth)


_NEAREST = (
    "SELECT first, last FROM (SELECT * FROM lists ORDER BY vec_distance_l1(vec_int8(centroid), vec_int8(?)), id LIMIT ?) "
    "ORDER BY vec_distance_l2(vec_int8(centroid), vec_int8(?)), id LIMIT ?"
)


def _distance(scan: Scan) -> str:
    return f"vec_distance_{scan}(vec_int8(p.embedding), vec_int8(?))"


def _scan(scan: Scan) -> str:
    """One statement, so that nothing is opened once for each list."""
    return (
        f"SELECT p.id FROM ({_NEAREST}) l CROSS JOIN placed p ON p.id BETWEEN l.first AND l.last "
        f"ORDER BY {_distance(scan)}, p.id LIMIT ?"
    )


def _ranked(
    db: apsw.Connection, meta: Meta, vector: bytes, query: bytes, places: list[int], again: int, depth: int
) -> Ranked:
    """Rows by L2 of int8, then the first ``again`` by the cosine of the float32 query and the int8 passage."""
    sql = (
        f"SELECT p.chunk, p.embedding, {_distance('l2')} AS d FROM json_each(?) j CROSS JOIN placed p ON p.id = j.value "
        "ORDER BY d, p.chunk LIMIT ?"
    )
    found: list[Any] = db.execute(sql, (query, _json(places), max(again, depth))).fetchall()
    unrounded = array("f", vector)
    exact = [(chunk, _cosine(unrounded, array("b", embedding))) for chunk, embedding, _ in found[:again]]
    rest = [(chunk, 1.0 - (distance / meta.scale) ** 2 / 2) for chunk, _, distance in found[again:depth]]
    ranked = [*sorted(exact, key=lambda pair: (-pair[1], pair[0])), *rest]
    return [(row, min(1.0, max(0.0, cosine))) for row, cosine in ranked[:depth]]


def _cosine(query: array[float], passage: array[int]) -> float:
    return sum(map(mul, query, passage)) / (math.sqrt(sum(map(mul, passage, passage))) or 1.0)


def _allowed(db: apsw.Connection, meta: Meta, query: bytes, probes: int, kept: int, where: Where) -> list[int]:
    """The best places among the rows that ``where`` allows.

    A search without a filter sees as many rows as ``probes`` lists hold; what a filter leaves is as dense around the query
    as those rows are, only thinner, so lists are read until as many allowed rows were seen: half of the rows, twice the
    lists. Where few are allowed they are all compared instead: up to the number at which both ways cost the same.
    """
    seen = probes * meta.chunks / meta.lists
    most = math.ceil(math.sqrt(seen * meta.chunks))
    sql = (
        "SELECT p.id FROM chunks c JOIN files f ON f.id = c.file JOIN placed p ON p.chunk = c.id "
        f"WHERE {where[0]} LIMIT ?"
    )
    places = [place for (place,) in db.execute(sql, (*where[1], most + 1))]
    if len(places) <= most:
        sql = f"SELECT p.id FROM json_each(?) j CROSS JOIN placed p ON p.id = j.value ORDER BY {_distance(meta.scan)}, p.id LIMIT ?"
        return [place for (place,) in db.execute(sql, (_json(places), query, kept))]
    sql = (
        f"SELECT {_distance(meta.scan)}, p.id FROM ({_NEAREST} OFFSET ?) l CROSS JOIN placed p ON p.id BETWEEN l.first AND l.last "
        f"CROSS JOIN chunks c ON c.id = p.chunk CROSS JOIN files f ON f.id = c.file WHERE {where[0]}"
    )
    found: list[Any] = []
    done = 0
    while len(found) < seen and done < meta.lists:
        step = probes if not done else min(3 * done, max(1, math.ceil(done * (seen / max(1, len(found)) - 1))))
        pool = CENTROIDS_KEPT * (done + step)
        found += db.execute(sql, (query, query, pool, query, step, done, *where[1])).fetchall()
        done += step
    return [place for _, place in heapq.nsmallest(kept, found)]


def _json(places: list[int]) -> str:
    return msgspec.json.encode(places).decode()
