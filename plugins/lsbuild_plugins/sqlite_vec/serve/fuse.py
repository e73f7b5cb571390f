"""Reciprocal rank fusion of two rankings (Cormack, Clarke and Buettcher, SIGIR 2009); pure."""

from __future__ import annotations

from collections.abc import Sequence

K = 60


def fuse(*rankings: Sequence[int], weights: Sequence[float] | None = None) -> list[tuple[int, float]]:
    """Fuse rankings of row ids, best first, into (row id, score), best first, ties by row id.

    A row's sum of ``weight / (K + rank)`` is divided by what a row gets that is first everywhere: 1.0 means that all
    rankings agree on it, and of two equal rankings a row that only one knows gets at most 0.5. ``weights`` (one for
    each ranking, not negative, not all 0) default to 1; a ranking of weight 0 adds no rows.
    """
    shares = weights or [1.0] * len(rankings)
    best = sum(shares) / (K + 1)
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, shares, strict=True):
        for rank, row in enumerate(ranking if weight else (), start=1):
            scores[row] = scores.get(row, 0.0) + weight / (K + rank)
    return sorted(((row, score / best) for row, score in scores.items()), key=lambda pair: (-pair[1], pair[0]))
