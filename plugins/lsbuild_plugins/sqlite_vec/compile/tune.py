"""How many lists a search has to read: asked of the finished tables through the very code that serves, query by query."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

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


_STRIDE = 4
"""Rungs: twice the lists, or a little more."""

_GROWTH = 0.004
"""Of the recall over a stride, at least, to go on: else what is missing, this way of scanning does not see."""


class Point(NamedTuple):
    """One point of the curve. ``cpu_ms`` was measured; ``cost`` is a share of the exact scan's, by the model above."""

    probes: int
    recall: float
    cpu_ms: float
    cost: float


class Curve(NamedTuple):
    """What was found for one way of scanning; ``met`` says whether the last point has the recall asked for."""

    scan: Scan
    points: tuple[Point, ...]
    met: bool


class Trial(NamedTuple):
    """The finished tables and what is asked of them; ``order`` [chunks] is the row of the corpus behind each row id."""

    db: apsw.Connection
    corpus: Corpus
    order: NDArray[np.int64]
    queries: Queries

    def measure(self, meta: Meta) -> tuple[float, float]:
        """recall@10 and the mean CPU milliseconds of a search."""
        found = []
        started = time.process_time()
        for vector, sources in zip(self.queries.vectors, self.queries.sources.tolist(), strict=True):
            ranked = lists.near(self.db, meta, vector.tobytes(), NEAREST, NEAREST + len(sources), None)
            rows = [int(self.order[row - 1]) for row, _ in ranked]
            found.append([row for row in rows if row not in sources][:NEAREST])
        spent = time.process_time() - started
        return recall(self.corpus, self.queries, found), spent / len(found) * 1000


def best(trial: Trial, meta: Meta, wanted: float) -> Curve:
    """The cheaper way of scanning that reaches ``wanted`` below the cost of an exact search; `Curve.met` says if any does."""
    most = 1.0
    curves: list[Curve] = []
    for scan in _ROW_US:
        curves.append(curve(trial, msgspec.structs.replace(meta, scan=scan), wanted, most))
        if curves[-1].met:
            most = curves[-1].points[-1].cost
    return min(curves, key=lambda each: (not each.met, each.points[-1].cost if each.met else -each.points[-1].recall))


def curve(trial: Trial, meta: Meta, wanted: float, most: float) -> Curve:
    """Recall up to the first rung that reaches ``wanted`` for less than ``most``, or until it grows no more.

    The ladder is climbed in strides and the last stride halved: some ten rungs are asked instead of up to forty.
    """
    rungs = [probes for probes in _rungs(meta.lists) if probes == 1 or _cost(meta, probes) < most]
    asked: dict[int, Point] = {}

    def reached(rung: int) -> bool:
        probes = rungs[rung]
        tried = msgspec.structs.replace(meta, probes=probes)
        asked[rung] = Point(probes, *trial.measure(tried), _cost(meta, probes))
        return asked[rung].recall >= wanted

    low = -1
    high = None
    for rung in sorted({*range(0, len(rungs), _STRIDE), len(rungs) - 1}):
        if reached(rung):
            high = rung
            break
        if low >= 0 and asked[rung].recall - asked[low].recall < _GROWTH:
            break
        low = rung
    while high is not None and high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    points = tuple(asked[rung] for rung in sorted(asked) if high is None or rung <= high)
    return Curve(meta.scan, points, met=high is not None and points[-1].cost < most)


def _rungs(count: int) -> Iterator[int]:
    yield from (probes for probes in LADDER if probes < count)
    yield count


def _cost(meta: Meta, probes: int) -> float:
    rows = probes * meta.chunks / meta.lists
    return (rows * _ROW_US[meta.scan] + meta.lists * _CENTROID_US) / (meta.chunks * _FLAT_US)
