"""Reads safetensors files and shards a few rows at a time with plain reads; it trusts nothing that a file says of itself.

Plain reads rather than a memory map: mapped pages count as resident, and a compile of a large model must stay small.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lsbuild.api import SourceError

Floats = NDArray[np.float32]

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_MAX_HEADER = 100 * 1024 * 1024
"""The bound that the format's own reference reader sets."""
_AGAIN = "Fetch the model again; if the file is the publisher's, it cannot be used."


class Matrix(Protocol):
    """Rows of numbers that are read when they are needed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape; the first dimension counts rows."""
        ...

    def rows(self, start: int, stop: int) -> Floats:
        """Rows ``start`` to ``stop`` (exclusive) as float32."""
        ...


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: where its bytes begin, and how to read them. ``shape`` may have no dimension at all."""

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def rows(self, start: int, stop: int) -> Floats:
        """Rows ``start`` to ``stop`` as float32; SourceError when there are not that many."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise SourceError(
                f"tensor {self.name} has {self.shape[0]} rows, {start} to {stop} were wanted",
                where=str(self.path),
                hint="config.json and the weights do not belong together: fetch both from one revision.",
            )
        width = math.prod(self.shape[1:])
        return self._read(start * width, (stop - start) * width).reshape(stop - start, *self.shape[1:])

    def array(self) -> Floats:
        """The whole tensor as float32."""
        return self._read(0, math.prod(self.shape)).reshape(self.shape)

    def _read(self, first: int, count: int) -> Floats:
        dtype = _DTYPES[self.dtype]
        flat = np.fromfile(self.path, dtype, count, offset=self.offset + first * dtype.itemsize)
        if flat.size != count:
            raise SourceError(f"tensor {self.name} ends before its last value", where=str(self.path), hint=_AGAIN)
        if self.dtype == "BF16":  # the upper half of a float32
            wide = np.zeros(count, "<u4")
            wide.view("<u2")[1::2] = flat
            flat = wide.view("<f4")
        values: Floats = flat.astype(np.float32, copy=False)
        return values


@dataclass(frozen=True, slots=True)
class Stacked:
    """Several matrices of equal width, one below the other (q, k and v become one product)."""

    parts: tuple[Matrix, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(sum of rows, width)."""
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    def rows(self, start: int, stop: int) -> Floats:
        """Rows ``start`` to ``stop``, gathered from the parts they fall in."""
        found, base = [], 0
        for part in self.parts:
            low, high = max(start - base, 0), min(stop - base, part.shape[0])
            if low < high:
                found.append(part.rows(low, high))
            base += part.shape[0]
        return found[0] if len(found) == 1 else np.concatenate(found)


@dataclass(frozen=True, slots=True)
class Weights:
    """All tensors of a model by name, from one file or many shards."""

    tensors: Mapping[str, Tensor]
    where: str
    """What to name in an error: the file or the index."""

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def get(self, name: str, *shape: int) -> Tensor:
        """The tensor; SourceError when it is missing or has another shape than ``shape`` (if given)."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise SourceError(
                f"tensor {name} is missing",
                where=self.where,
                hint="config.json and the weights do not belong together, or a shard is missing: fetch the model again.",
            )
        if shape and tensor.shape != shape:
            raise SourceError(
                f"tensor {name} has shape {list(tensor.shape)}, config.json calls for {list(shape)}",
                where=self.where,
                hint="config.json and the weights do not belong together: fetch both from one revision.",
            )
        return tensor

    @property
    def parameters(self) -> int:
        """How many numbers there are."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())


def open_weights(files: Mapping[str, Path]) -> Weights:
    """Open ``model.safetensors``, or the shards that ``model.safetensors.index.json`` names.

    Args:
        files: name within the model's folder -> where the file lies. Nothing outside of it is opened.
    """
    index = files.get("model.safetensors.index.json")
    if index is not None:
        return _open_shards(files, index)
    names = sorted(name for name in files if name.endswith(".safetensors") and "/" not in name)
    name = "model.safetensors" if "model.safetensors" in names else (names[0] if len(names) == 1 else "")
    if not name:
        raise SourceError(
            f"no single .safetensors file and no index (found: {', '.join(names) or 'none'})",
            where="weights",
            hint="Give a folder with model.safetensors, or shards with model.safetensors.index.json; "
            "pytorch_model.bin is a pickle and is never opened.",
        )
    return Weights(read_header(files[name]), str(files[name]))


def _open_shards(files: Mapping[str, Path], index: Path) -> Weights:
    placed = _json(index.read_bytes(), index).get("weight_map")
    if not isinstance(placed, dict):
        raise SourceError("weight_map is missing", where=str(index), hint=_AGAIN)
    found: dict[str, Tensor] = {}
    for shard in sorted({str(value) for value in placed.values()}):
        if shard not in files:
            raise SourceError(f"names the shard {shard!r}, which is not in the source", where=str(index), hint=_AGAIN)
        found |= read_header(files[shard])
    lost = sorted(set(placed) - set(found))
    if lost:
        raise SourceError(f"{len(lost)} tensors are in no shard, first {lost[0]}", where=str(index), hint=_AGAIN)
    return Weights(found, str(index))


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, each checked to lie inside it. Tensors of other types than floats are left out.

    Format: u64 length of the header, the header (JSON), the data; all little-endian.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise SourceError(
                f"is no safetensors file: a header of {length} bytes in {size}", where=str(path), hint=_AGAIN
            )
        header = _json(stream.read(length), path)
    header.pop("__metadata__", None)
    tensors = (_tensor(name, entry, path, 8 + length, size) for name, entry in sorted(header.items()))
    return {tensor.name: tensor for tensor in tensors if tensor.dtype in _DTYPES}


def _tensor(name: str, entry: object, path: Path, base: int, size: int) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]} if all(
            type(n) is int and 0 <= n < 2**40 for n in shape
        ):
            wanted = math.prod(shape) * _DTYPES[dtype].itemsize if dtype in _DTYPES else stop - start
            if 0 <= start <= stop <= size - base and stop - start == wanted:
                return Tensor(name, path, dtype, tuple(shape), base + start)
            raise SourceError(
                f"tensor {name} ({dtype} {shape}) claims bytes {start} to {stop} of {size - base}: it needs {wanted}",
                where=str(path),
                hint="The file is cut short or damaged. " + _AGAIN,
            )
    raise SourceError(f"the entry of tensor {name!r} is not readable", where=str(path), hint=_AGAIN)


def _json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"is not valid JSON ({type(error).__name__})", where=str(path), hint=_AGAIN) from error
    if not isinstance(value, dict):
        raise SourceError("is not a JSON object", where=str(path), hint=_AGAIN)
    return value
