"""Reciprocal rank fusion of two rankings (Cormack, Clarke and Buettcher, SIGIR 2009); pure."""

from __future__ import annotations

from collections.abc import Sequence

K = 60


def fuse(*rankings: Sequence[int]) -> list[tuple[int, float]]:
    """Fuse rankings of row ids, best first, into (row id, score), best first, ties by row id.

    A row's sum of ``1 / (K + rank)`` is divided by what a row gets that is first everywhere: 1.0 means that all
    rankings agree on it, and with two rankings a row that only one of them knows gets at most 0.5.
    """
    best = len(rankings) / (K + 1)
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, start=1):
            scores[row] = scores.get(row, 0.0) + 1 / (K + rank)
    return sorted(((row, score / best) for row, score in scores.items()), key=lambda pair: (-pair[1], pair[0]))
