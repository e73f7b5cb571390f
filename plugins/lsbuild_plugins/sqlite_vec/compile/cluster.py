"""Spherical k-means on int8 vectors in exact integer arithmetic: the same lists on every machine, with any number of threads.

Products of int8 vectors are summed in float32 by the machine's BLAS. That is exact in any order of summing: no partial sum
exceeds the product of both lengths, which `LONGEST` keeps where float32 holds every integer. Roots and quotients of such
sums are rounded alike everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CLIP_QUANTILE = 0.9995
"""Share of components that int8 holds without clipping; the scale is 127 / this quantile."""

LONGEST = 2000
"""Length of a scaled vector, at most: its square stays far below 2**24, up to which float32 holds every integer."""

ROUNDS = 10
PER_LIST = 48
"""Training vectors for each list."""

ROWS = 4096
"""Rows whose distances to all centroids are in memory at a time."""

Codes = NDArray[np.int8]
Floats = NDArray[np.float32]


def scale(vectors: Floats) -> float:
    """What turns a component into an int8, for vectors like this sample, float32 [n, dimensions] of unit length."""
    top = float(np.quantile(np.abs(vectors), CLIP_QUANTILE))
    return min(float(LONGEST), 127.0 / max(top, 1e-9))


def encode(vectors: Floats, factor: float) -> Codes:
    """Vectors as the index holds them, int8 [n, dimensions]; equal to `serve.format.encode` of each."""
    return np.clip(np.rint(vectors.astype(np.float64) * factor), -127, 127).astype(np.int8)


def lists_for(chunks: int) -> int:
    """Number of lists: 3 sqrt(n). Fewer cost more rows for a search, more cost more centroids and a longer build."""
    return round(3 * math.sqrt(chunks))


def centroids(sample: Codes, count: int, factor: float) -> Codes:
    """``count`` centroids of unit length, as int8; ``sample`` is in random order and holds more rows than that."""
    found = sample[:count].copy()
    spare = iter(range(count, len(sample)))
    before: NDArray[np.int64] | None = None
    for _ in range(ROUNDS):
        nearest = assign(sample, found)
        if before is not None and np.array_equal(nearest, before):
            break
        before = nearest
        found = _means(sample, nearest, found, factor, spare)
    return found


def assign(codes: Codes, found: Codes) -> NDArray[np.int64]:
    """The centroid with the largest cosine for each row, the first of equal ones; int64 [n].

    Not the nearest by distance: a centroid whose components are clipped at 127 is shorter than the others, and what is far
    from all would be nearest to it.
    """
    turned = np.ascontiguousarray(found.astype(np.float32).T)
    lengths = np.maximum(np.sqrt(np.square(turned).sum(axis=0)), 1)
    out = np.empty(len(codes), np.int64)
    for start in range(0, len(codes), ROWS):
        near = codes[start : start + ROWS].astype(np.float32) @ turned
        near /= lengths
        out[start : start + ROWS] = near.argmax(axis=1)
    return out


def _means(sample: Codes, nearest: NDArray[np.int64], old: Codes, factor: float, spare: Iterator[int]) -> Codes:
    """The mean direction of each list's rows; a list without rows takes a spare row of the sample, while there are any."""
    order = np.argsort(nearest, kind="stable")
    sizes = np.bincount(nearest, minlength=len(old))
    ends = np.cumsum(sizes)
    new = old.copy()
    for number, (size, end) in enumerate(zip(sizes.tolist(), ends.tolist(), strict=True)):
        if size:
            total = sample[order[end - size : end]].sum(axis=0, dtype=np.int64)
            length = np.sqrt(np.square(total).sum()) or 1.0
            new[number] = np.clip(np.rint(total / length * factor), -127, 127)
        else:
            new[number] = sample[next(spare, number)]
    return new
