"""Queries that the lists were not made from, and the exact answers to them; integer arithmetic, the same on every machine.

There are no users' questions at build, so passages stand in for them, in two ways. A *neighbour* query is a held-out
passage itself: what else is like this? A *between* query lies amid three held-out passages of different places: a question
is less like any passage than passages are like each other, and its answers lie at the edges of lists, where probing misses
first. Neither kind may find the passages it was made from: they count as if they were not in the index. What is promised is
the recall of the worse kind.

Held against 108 questions of people over 1,880 passages of Python's documentation (MiniLM, 130 lists): for recall 0.95 the
questions need 9 lists, between queries 7, neighbour queries 3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsbuild_plugins.sqlite_vec.compile.cluster import LONGEST
from lsbuild_plugins.sqlite_vec.compile.codes import CodeFile
from lsbuild_plugins.sqlite_vec.compile.corpus import Corpus

OF_KIND = 128
"""Queries of each kind: 1,280 places to be found, a standard error of about one per cent."""

NEAREST = 10
"""Recall is counted over so many."""

AMID = 3
"""Passages of a between query."""

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]


class Queries(NamedTuple):
    """``vectors`` float32 [queries, dimensions], neighbours first; ``sources`` are rows that a query may not find, -1 for
    none, [queries, 3]; ``least`` is the score of the tenth nearest row, [queries]. Scores are products of `_codes`.
    """

    vectors: Floats
    sources: Integers
    least: Floats


def choose(corpus: Corpus, held: Integers) -> Queries:
    """Queries from the held-out rows ``held`` [4 * n], with their exact answers."""
    own, *amid = np.split(held, 1 + AMID)
    mixed = sum((_codes(corpus.take(rows)).astype(np.int64) for rows in amid), np.int64(0))
    both = (_codes(corpus.take(own)).astype(np.int64), mixed)
    units = [codes / np.sqrt(np.square(codes).sum(axis=1, keepdims=True)) for codes in both]
    vectors = np.concatenate(units).astype(np.float32)
    none = np.full_like(own, -1)
    sources = np.concatenate([np.stack([own, *[none] * (AMID - 1)], axis=1), np.stack(amid, axis=1)])
    return Queries(vectors, sources, _least(corpus, vectors, sources))


def rounded(corpus: Corpus, codes: CodeFile, queries: Queries) -> float:
    """Recall of comparing with every int8 vector: what no choice of lists can exceed."""
    turned = np.ascontiguousarray(_codes(queries.vectors).T)
    best = np.full((NEAREST, turned.shape[1]), -np.inf)
    rows = np.zeros(best.shape, np.int64)
    start = 0
    for block in codes.blocks():
        floats = block.astype(np.float32)
        scores = (floats @ turned) / np.sqrt(np.square(floats).sum(axis=1, dtype=np.float64))[:, None]
        _forbid(scores, start, queries.sources)
        top = np.argpartition(scores, max(0, len(scores) - NEAREST), axis=0)[-NEAREST:]
        both = np.concatenate([best, np.take_along_axis(scores, top, axis=0)])
        order = np.argsort(both, axis=0, kind="stable")[-NEAREST:]
        best = np.take_along_axis(both, order, axis=0)
        rows = np.take_along_axis(np.concatenate([rows, top + start]), order, axis=0)
        start += len(block)
    return recall(corpus, queries, rows.T.tolist())


def _forbid(scores: NDArray[np.floating[Any]], start: int, sources: Integers) -> None:
    """Take the sources of each query out of a block of scores [rows, queries] that begins at row ``start``."""
    for column in sources.T:
        inside = np.flatnonzero((column >= start) & (column < start + len(scores)))
        scores[column[inside] - start, inside] = -np.inf


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
        _forbid(scores, start, sources)
        both = np.concatenate([best, scores])
        best = np.partition(both, len(both) - NEAREST, axis=0)[-NEAREST:]
    least: Floats = best.min(axis=0)
    return least
