"""Numbers that go into a graph and come out, in plain arrays: what encoders have instead of numpy; arithmetic only."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from operator import mul
from typing import Any, Literal, NamedTuple

INT32, INT64, FLOAT32 = "i", "q", "f"
"""Typecodes of ``Tensor.values``."""
_CODES = {"int32": INT32, "int64": INT64}
_LEAST_NORM = 1e-12

Dtype = Literal["int32", "int64"]


class Tensor(NamedTuple):
    """``values`` row after row; its typecode is the type of the elements (INT32, INT64, FLOAT32)."""

    values: array[Any]
    shape: tuple[int, ...]


def integers(rows: Sequence[Sequence[int]], dtype: Dtype = "int64") -> Tensor:
    """Rows of equal length as a matrix."""
    values = array(_CODES[dtype])
    for row in rows:
        values.extend(row)
    return Tensor(values, (len(rows), len(rows[0])))


def filled(shape: tuple[int, int], value: int, dtype: Dtype = "int64") -> Tensor:
    """A matrix of one number."""
    return Tensor(array(_CODES[dtype], [value]) * (shape[0] * shape[1]), shape)


def rows(tensor: Tensor) -> list[array[float]]:
    """What stands under each place of the first axis."""
    count = tensor.shape[0]
    size = len(tensor.values) // max(count, 1)
    return [tensor.values[size * row : size * (row + 1)] for row in range(count)]


def mean(states: array[float], width: int) -> array[float]:
    """The mean of rows of ``width`` numbers."""
    count = len(states) // width
    return array(FLOAT32, [sum(states[column::width]) / count for column in range(width)])


def unit(vector: array[float]) -> array[float]:
    """A vector with the length 1; one without a length stays as it is."""
    length = max(math.sqrt(sum(map(mul, vector, vector))), _LEAST_NORM)
    return array(FLOAT32, [value / length for value in vector])
