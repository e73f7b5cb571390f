"""How many lists a search has to read: asked of the finished tables through the very code that serves, query by query."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import apsw
import msgspec

from lsbuild_plugins.sqlite_vec.compile.corpus import Corpus
from lsbuild_plugins.sqlite_vec.compile.heldout import NEAREST, Queries, recall
from lsbuild_plugins.sqlite_vec.serve import lists
from lsbuild_plugins.sqlite_vec.serve.format import Meta, Scan

LADDER = tuple(sorted({round(step * 2**power) for power in range(1, 11) for step in (0.5, 0.625, 0.75, 1)} - {0}))
"""Numbers of probes that are tried, each at most a third above the one before: 1, 2, 3, 4, 5, 6, 8, 10, 12, 16 ... 1024."""

_ROW_US: dict[Scan, float] = {"l1": 0.45, "l2": 1.1}
_CENTROID_US = 0.45
_FLAT_US = 0.65
"""CPU time for each row: of a list, of the centroids, of an exact int8 scan; on x86-64 at 384 dimensions. Only their
proportions count. Constants, since what is measured during a build would make two builds of the same input differ."""


_GROWTH = 0.004
"""Of the recall over three rungs of the ladder, at least, to go on."""


class Point(NamedTuple):
    """One point of the curve. ``cost`` is a share of the exact scan's, by the model above; ``cpu_ms`` was measured."""

    probes: int
    recall: float
    cost: float
    cpu_ms: float


class Curve(NamedTuple):
    """What was found for one way of scanning; ``met`` says whether the last point has the recall asked for."""

    scan: Scan
    points: tuple[Point, ...]
    met: bool


def best(db: apsw.Connection, corpus: Corpus, meta: Meta, queries: Queries, wanted: float) -> Curve:
    """The cheaper way of scanning that reaches ``wanted`` below the cost of an exact search; `Curve.met` says if any does."""
    most = 1.0
    curves: list[Curve] = []
    for scan in _ROW_US:
        curves.append(curve(db, corpus, msgspec.structs.replace(meta, scan=scan), queries, wanted, most))
        if curves[-1].met:
            most = curves[-1].points[-1].cost
    return min(curves, key=lambda each: (not each.met, each.points[-1].cost if each.met else -each.points[-1].recall))


def curve(db: apsw.Connection, corpus: Corpus, meta: Meta, queries: Queries, wanted: float, most: float) -> Curve:
    """Recall for more and more probes, until it is reached, costs ``most``, or grows no more."""
    points: list[Point] = []
    for probes in _rungs(meta.lists):
        cost = _cost(meta, probes)
        if points and (cost >= most or _flat(points)):
            break
        share, spent = measure(db, corpus, msgspec.structs.replace(meta, probes=probes), queries)
        points.append(Point(probes, share, cost, spent))
        if share >= wanted:
            return Curve(meta.scan, tuple(points), met=cost < most)
    return Curve(meta.scan, tuple(points), met=False)


def _flat(points: list[Point]) -> bool:
    """Twice the lists brought next to nothing: what is missing now, this way of scanning does not see."""
    return len(points) > 3 and points[-1].recall - points[-4].recall < _GROWTH


def measure(db: apsw.Connection, corpus: Corpus, meta: Meta, queries: Queries) -> tuple[float, float]:
    """recall@10 and the mean CPU milliseconds of a search."""
    found = []
    started = time.process_time()
    for vector, sources in zip(queries.vectors, queries.sources.tolist(), strict=True):
        ranked = lists.near(db, meta, vector.tobytes(), NEAREST, NEAREST + len(sources), None)
        found.append([row - 1 for row, _ in ranked if row - 1 not in sources][:NEAREST])
    spent = time.process_time() - started
    return recall(corpus, queries, found), spent / len(found) * 1000


def _rungs(count: int) -> Iterator[int]:
    yield from (probes for probes in LADDER if probes < count)
    yield count


def _cost(meta: Meta, probes: int) -> float:
    rows = probes * meta.chunks / meta.lists
    return (rows * _ROW_US[meta.scan] + meta.lists * _CENTROID_US) / (meta.chunks * _FLAT_US)
