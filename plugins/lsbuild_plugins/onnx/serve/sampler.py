"""Chooses the next token from logits; pure numpy on one row, no model and no text."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lsbuild_runtime.ports import Sampling

Row = NDArray[np.float32]
"""Logits of one position, f32[V]."""

_BLOCK = 64
_SORTED = 2048
"""So many candidates are sorted without counting them first."""
_STEPS = 64
"""Steps per factor of e."""
_GREEDY = 1e-5
"""Temperatures below this choose the largest logit: dividing by them would overflow f32."""


def top(row: Row, k: int) -> NDArray[np.intp]:
    """Indices of the ``k`` largest values, largest first, equal ones by index.

    Only values not below the k-th largest block maximum can be among them: ten times less work than partitioning V.
    """
    k = min(k, len(row))
    if k * _BLOCK < len(row):
        maxima = np.maximum.reduceat(row, np.arange(0, len(row), _BLOCK))
        candidates = np.flatnonzero(row >= np.partition(maxima, len(maxima) - k)[len(maxima) - k])
    else:
        candidates = np.arange(len(row))
    return candidates[np.argsort(-row[candidates], kind="stable")[:k]]


def log_normaliser(row: Row) -> float:
    """log(sum(exp(row))), so that ``row - log_normaliser(row)`` are log probabilities."""
    peak = float(row.max())
    return peak + float(np.log(np.exp(row - np.float32(peak)).sum(dtype=np.float64)))


class Sampler:
    """The choice of tokens for one answer.

    Order: logit_bias and penalties, temperature, top_k, top_p (as in transformers and vLLM). The same seed, choice index
    and logits give the same tokens. Random numbers are the standard library's Mersenne Twister, whose ``random()`` is
    guaranteed not to change between versions; numpy.random would cost 30 ms of import for one number per token.
    """

    def __init__(self, sampling: Sampling, index: int) -> None:
        self._temperature = sampling.temperature
        self._top_p = sampling.top_p
        self._top_k = int(sampling.top_k)  # a model's own default may come as 50.0
        self._frequency = sampling.frequency_penalty
        self._presence = sampling.presence_penalty
        self._seen: dict[int, int] = {}
        self._bias = _bias(sampling.logit_bias)
        seed = None if sampling.seed is None else f"{sampling.seed}/{index}"
        self._random = random.Random(seed)
        self._scratch = np.empty((2, 0), np.float32)

    def choose(self, row: Row) -> int:
        """The next token; changes ``row``."""
        self._adjust(row)
        token = int(row.argmax()) if self._temperature < _GREEDY else self._draw(row)
        self.follow(token)
        return token

    def follow(self, token: int) -> None:
        """Take note of a token of the answer; ``choose`` does it for those it chose."""
        if self._frequency or self._presence:
            self._seen[token] = self._seen.get(token, 0) + 1

    def _adjust(self, row: Row) -> None:
        if self._bias is not None:
            row[self._bias[0]] += self._bias[1]
        if self._seen:
            ids = np.fromiter(self._seen, dtype=np.intp, count=len(self._seen))
            counts = np.fromiter(self._seen.values(), dtype=np.float32, count=len(self._seen))
            row[ids] -= counts * np.float32(self._frequency) + np.float32(self._presence)

    def _draw(self, row: Row) -> int:
        places = top(row, self._top_k) if self._top_k > 0 else None
        values = row if places is None else row[places]
        depths, weights = self._weigh(values)
        if self._top_p < 1:
            kept = _nucleus(weights, depths, self._top_p)
            weights = weights[kept]
            places = kept if places is None else places[kept]
        found = _inverse(weights, self._random.random())
        return found if places is None else int(places[found])

    def _weigh(self, values: Row) -> tuple[Row, Row]:
        """(-log of the weights, the weights) at the temperature; the largest weight is 1.

        Both live in memory of this sampler: arrays of this size made anew for each token cost page faults.
        """
        if self._scratch.shape[1] != len(values):
            self._scratch = np.empty((2, len(values)), np.float32)
        depths, weights = self._scratch
        np.subtract(values.max(), values, out=depths)
        np.multiply(depths, np.float32(1 / self._temperature), out=depths)
        np.negative(depths, out=weights)
        np.exp(weights, out=weights)
        return depths, weights


def _bias(logit_bias: Mapping[int, float]) -> tuple[NDArray[np.intp], Row] | None:
    if not logit_bias:
        return None
    return np.array(list(logit_bias), dtype=np.intp), np.array(list(logit_bias.values()), dtype=np.float32)


def _nucleus(weights: Row, depths: Row, top_p: float) -> NDArray[np.intp]:
    """Indices of the fewest largest weights that hold ``top_p`` of the sum, in any order (Holtzman et al. 2020).

    Weights below ``(1 - top_p) / V`` of the sum hold less than ``1 - top_p`` together and are left out at once. If many
    remain (a flat distribution), they are counted in steps of ``depths`` (-log of the weight) and only the step in which
    the sum is reached is sorted: 0.4 instead of 4 ms for 49,000 tokens.
    """
    total = float(weights.sum(dtype=np.float64))
    goal = top_p * total
    kept = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))
    above = kept[:0]
    if len(kept) > _SORTED:
        steps = (depths[kept] * _STEPS).astype(np.intp)
        mass = np.cumsum(np.bincount(steps, weights[kept]))
        cut = min(int(np.searchsorted(mass, goal)), len(mass) - 1)
        goal -= float(mass[cut - 1]) if cut else 0.0
        above, kept = kept[steps < cut], kept[steps == cut]
    kept = kept[np.argsort(-weights[kept], kind="stable")]
    mass = np.cumsum(weights[kept], dtype=np.float64)
    return np.concatenate((above, kept[: int(np.searchsorted(mass, goal)) + 1]))


def _inverse(weights: Row, uniform: float) -> int:
    """The index at which the running sum passes ``uniform`` (0..1) of the sum; block sums first, then one block."""
    whole = len(weights) - len(weights) % _BLOCK
    # einsum is four times as fast as add.reduceat here.
    sums = np.einsum("ij->i", weights[:whole].reshape(-1, _BLOCK))
    blocks = np.cumsum(np.append(sums, weights[whole:].sum()), dtype=np.float64)
    goal = uniform * float(blocks[-1])
    block = _passes(blocks, goal)
    block = min(block, (len(weights) - 1) // _BLOCK)
    inside = np.cumsum(weights[block * _BLOCK : (block + 1) * _BLOCK], dtype=np.float64)
    return block * _BLOCK + _passes(inside, goal - (float(blocks[block - 1]) if block else 0.0))


def _passes(sums: NDArray[np.float64], goal: float) -> int:
    """The first index whose sum exceeds ``goal``; where rounding leaves none, the last that added anything."""
    found = int(np.searchsorted(sums, goal, side="right"))
    return found if found < len(sums) else int(np.searchsorted(sums, sums[-1], side="left"))
