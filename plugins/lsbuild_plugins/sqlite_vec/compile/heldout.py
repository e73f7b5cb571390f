"""Queries that the lists were not made from, and the exact answers to them; integer arithmetic, the same on every machine.

There are no users' questions at build, so passages stand in for them, in two ways. A *neighbour* query is a held-out
passage itself: what else is like this? A *between* query lies between two held-out passages of different places, 0.8 of
the way to the first by weight: a question is less like any passage than passages are like each other, and its answers lie
at the edges of lists, where probing misses first. Neither kind may find the passages it was made from: they count as if
they were not in the index. What is promised is the recall of the worse kind.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsbuild_plugins.sqlite_vec.compile.cluster import LONGEST
from lsbuild_plugins.sqlite_vec.compile.corpus import Corpus

OF_KIND = 128
"""Queries of each kind: 1,280 places to be found, a standard error of about one per cent."""

NEAREST = 10
"""Recall is counted over so many."""

_WEIGHTS = (4, 3)
"""Of the two passages of a between query; with unlike passages its cosine to the first is 0.8."""

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]


class Queries(NamedTuple):
    """``vectors`` float32 [queries, dimensions], neighbours first; ``sources`` are rows that a query may not find, -1 for
    none, [queries, 2]; ``least`` is the score of the tenth nearest row, [queries]. Scores are products of `_codes`.
    """

    vectors: Floats
    sources: Integers
    least: Floats


def choose(corpus: Corpus, held: Integers) -> Queries:
    """Queries from the held-out rows ``held`` [3 * n], with their exact answers."""
    count = len(held) // 3
    neighbours, firsts, seconds = (
        _codes(corpus.take(held[i * count : (i + 1) * count])).astype(np.int64) for i in range(3)
    )
    mixed = _WEIGHTS[0] * firsts + _WEIGHTS[1] * seconds
    units = [codes / np.sqrt(np.square(codes).sum(axis=1, keepdims=True)) for codes in (neighbours, mixed)]
    vectors = np.concatenate(units).astype(np.float32)
    none = np.full(count, -1)
    sources = np.stack([held[: 2 * count], np.concatenate([none, held[2 * count : 3 * count]])], axis=1)
    return Queries(vectors, sources, _least(corpus, vectors, sources))


def recall(corpus: Corpus, queries: Queries, found: list[list[int]]) -> float:
    """Share of the ten nearest that ``found`` holds (rows, best first, sources left out), of the worse kind of query.

    A row counts when it is no farther than the tenth nearest: of equal passages any will do.
    """
    codes = _codes(queries.vectors)
    hits = []
    for number, rows in enumerate(found):
        scores = _codes(corpus.take(np.array(rows, np.int64))) @ codes[number]
        hits.append(int((scores >= queries.least[number]).sum()))
    half = len(hits) // 2
    return min(sum(hits[:half]), sum(hits[half:])) / (NEAREST * half)


def _codes(vectors: Floats) -> Floats:
    """Integers, four digits of each component, held as float32 so that their products are exact (see `cluster`)."""
    return np.rint(vectors.astype(np.float64) * LONGEST).astype(np.float32)


def _least(corpus: Corpus, vectors: Floats, sources: Integers) -> Floats:
    codes = np.ascontiguousarray(_codes(vectors).T)
    best = np.full((NEAREST, len(vectors)), -np.inf, np.float32)
    for start, block in corpus.blocks():
        scores = _codes(block) @ codes
        for column in range(sources.shape[1]):
            inside = np.flatnonzero((sources[:, column] >= start) & (sources[:, column] < start + len(block)))
            scores[sources[inside, column] - start, inside] = -np.inf
        both = np.concatenate([best, scores])
        best = np.partition(both, len(both) - NEAREST, axis=0)[-NEAREST:]
    least: Floats = best.min(axis=0)
    return least
