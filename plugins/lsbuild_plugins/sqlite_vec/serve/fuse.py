"""One ranking of two: by places (Cormack, Clarke and Buettcher, SIGIR 2009) or by scores; pure."""

from __future__ import annotations

from lsbuild_plugins.sqlite_vec.serve.lists import Ranked
from lsbuild_runtime.ports import Fusion

K = 60


def fuse(near: Ranked, worded: Ranked, fusion: Fusion) -> Ranked:
    """Join (row id, score) lists, each best first, into one, ties by row id; a ranking of weight 0 adds no rows.

    A row's sum is divided by what a row gets that is first in both rankings (``rrf``) or has score 1 in both
    (``weighted``): 1.0 means that both agree on it, and with equal weights a row that only one knows gets at most 0.5.
    """
    shares = ((near, fusion.vector), (worded, fusion.keyword))
    best = fusion.vector + fusion.keyword
    sums: dict[int, float] = {}
    for ranking, weight in shares:
        for place, (row, score) in enumerate(ranking if weight else (), start=1):
            worth = score if fusion.ranker == "weighted" else (K + 1) / (K + place)
            sums[row] = sums.get(row, 0.0) + weight * worth / best
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))
