"""Recall, success, MRR and nDCG from the ranks at which right places were found; pure arithmetic.

A question has n right places; ``ranks`` holds for each the rank (from 1) of the first passage that holds it, or None.
Recall and nDCG with binary or graded gains are those of trec_eval (Jarvelin and Kekalainen, TOIS 2002, with gain =
grade and discount = log2(rank + 1)), MRR is that of Voorhees (TREC-8 QA track, 1999); a test compares them with
pytrec_eval. Where one passage holds two right places, DCG could exceed the ideal, so nDCG ends at 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

Ranks = Sequence[int | None]
NAME = re.compile(r"(?:recall|success|ndcg)@[1-9]\d{0,2}|mrr")
"""The measures of a search. ``success@k`` is the share of questions with any right place among the first k."""


def recall(ranks: Ranks, k: int) -> float:
    """The share of the right places that are among the first ``k``."""
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks)


def success(ranks: Ranks, k: int) -> float:
    """1 when any right place is among the first ``k``, else 0."""
    return float(any(rank is not None and rank <= k for rank in ranks))


def reciprocal(ranks: Ranks) -> float:
    """1 / the rank of the first right passage; 0 when there is none."""
    return 1 / min((rank for rank in ranks if rank is not None), default=math.inf)


def ndcg(ranks: Ranks, grades: Sequence[int], k: int) -> float:
    """The discounted gain of the first ``k`` as share of the best possible."""
    gained = sum(g / math.log2(r + 1) for r, g in zip(ranks, grades, strict=True) if r is not None and r <= k)
    ideal = sum(g / math.log2(place + 2) for place, g in enumerate(sorted(grades, reverse=True)[:k]))
    return min(1.0, gained / ideal)


def value(name: str, ranks: Ranks, grades: Sequence[int]) -> float:
    """One question's value of the measure ``name``, which `NAME` matches."""
    measure, _, depth = name.partition("@")
    if measure == "mrr":
        return reciprocal(ranks)
    k = int(depth)
    return {"recall": recall(ranks, k), "success": success(ranks, k)}.get(measure, ndcg(ranks, grades, k))


def auc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The probability that a value of ``right`` is larger than one of ``wrong`` (Mann-Whitney; ties count half)."""
    wins = sum((a > b) + (a == b) / 2 for a in right for b in wrong)
    return wins / (len(right) * len(wrong))


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0
