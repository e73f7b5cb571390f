"""What services answered to the shared questions, and whether two answers agree; pure.

Greedy decoding gives the same text wherever the arithmetic is the same: the same weights on the same kind of processor. On
another one a sum has other last digits, 4 and 8 bits widen that to a tenth of a logit, and the first near tie ends the
common beginning; such texts agree when half of their words are in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

COSINE, HITS, WORDS, SCORES = 0.999, 0.8, 0.5, 0.02
"""What has to agree at least: the cosine of each vector, the share of passages and of words; how far scores may differ."""

Kind = Literal["text", "vectors", "hits", "scores", "value"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one service said. Of ``values``, by kind: texts; vectors, one for each text; lists of passages, best first, one
    for each query; scores; or whatever has to be equal."""

    kind: Kind
    values: Sequence[object]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether two answers agree, and in words how well: ``equal``, ``cosine 0.9998``, ``7 of 12 words``."""

    ok: bool
    said: str


def agree(one: Answer, other: Answer, *, exact: bool, cosine: float = COSINE) -> Agreement:
    """Compare two answers to the same question; texts and passages have to be equal where arithmetic is (``exact``).

    ``cosine`` is the least of two vectors of one text: other weights of the same model may be farther apart than ``COSINE``.
    """
    if one.kind != other.kind or len(one.values) != len(other.values):
        return Agreement(False, f"{len(other.values)} {other.kind} instead of {len(one.values)} {one.kind}")
    if one.kind == "vectors":
        return _vectors(one.values, other.values, cosine)
    if one.values == other.values:
        return Agreement(True, "equal")
    if one.kind == "text":
        share, said = _words(one.values, other.values)
        return Agreement(share >= WORDS and not exact, said)
    if one.kind == "hits":
        share, said = _hits(one.values, other.values)
        return Agreement(share >= HITS and not exact, said)
    if one.kind == "scores":
        far = max(abs(float(str(a)) - float(str(b))) for a, b in zip(one.values, other.values, strict=True))
        return Agreement(far <= SCORES, f"scores differ by {far:.3f}")
    return Agreement(False, f"{other.values} instead of {one.values}"[:120])


def _vectors(ours: Sequence[object], theirs: Sequence[object], limit: float) -> Agreement:
    least = min(_cosine(a, b) for a, b in zip(ours, theirs, strict=True))
    return Agreement(least >= limit, f"cosine {least:.5f}")


def _cosine(one: object, other: object) -> float:
    if not (isinstance(one, list) and isinstance(other, list) and len(one) == len(other)):
        return 0.0
    product = sum(a * b for a, b in zip(one, other, strict=True))
    norms = math.sqrt(sum(a * a for a in one)) * math.sqrt(sum(b * b for b in other))
    return product / norms if norms else 0.0


def _words(ours: Sequence[object], theirs: Sequence[object]) -> tuple[float, str]:
    """The share of words that both have in the same order, of the longer text."""
    one, other = (" ".join(map(str, values)).split() for values in (ours, theirs))
    same = sum(block.size for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks())
    longer = max(len(one), len(other))
    return (same / longer if longer else 1.0), f"{same} of {longer} words"


def _hits(ours: Sequence[object], theirs: Sequence[object]) -> tuple[float, str]:
    """The share of passages that both found, whatever their order."""
    pairs = [
        (list(a), list(b)) for a, b in zip(ours, theirs, strict=True) if isinstance(a, list) and isinstance(b, list)
    ]
    same = sum(len(set(map(str, a)) & set(map(str, b))) for a, b in pairs)
    most = sum(max(len(a), len(b)) for a, b in pairs)
    return (same / most if most else 1.0), f"{same} of {most} passages"
