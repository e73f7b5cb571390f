"""A small builder over onnx.helper: nodes in order, one external data file, no names but given ones, no timestamps.

The same calls give the same bytes. Small constants stay in the graph; everything else goes to ``model.data``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

Array = NDArray[Any]

MICROSOFT = "com.microsoft"
_INLINE = 8192
"""Constants below this many bytes stay in model.onnx: each beside it costs 27 system calls when a session is opened."""
_PAGE = 4096
"""Alignment of large tensors, so that a runtime can map them."""
_TYPES = {
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


@dataclass(frozen=True, slots=True)
class Location:
    """Bytes in ``model.data``."""

    offset: int
    length: int


class Graph:
    """One graph under construction in ``folder``; a context manager that closes the data file.

    Opset 21 and com.microsoft 1: what the CPU provider of onnxruntime 1.31 was measured with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = (folder / "model.data").open("wb")
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def __enter__(self) -> Graph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._data.close()

    def __contains__(self, name: str) -> bool:
        return name in self._initializers

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Declare an input; strings in ``shape`` are symbolic."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Declare that ``name``, made by a node, is an output."""
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))

    def node(self, op: str, inputs: Iterable[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """Append a node with one output and return that output's name. An empty input name leaves an optional one out."""
        return self.nodes(op, inputs, (output,), domain=domain, **attributes)[0]

    def nodes(
        self, op: str, inputs: Iterable[str], outputs: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Append a node with several outputs."""
        made = helper.make_node(op, list(inputs), list(outputs), name=outputs[0] or outputs[-1], domain=domain)
        made.attribute.extend(helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self._nodes.append(made)
        return tuple(outputs)

    def append(self, chunks: Iterable[Array]) -> Location:
        """Write arrays one behind the other to ``model.data`` and say where they lie."""
        offset = self._align()
        for chunk in chunks:
            self._data.write(np.ascontiguousarray(chunk).data)
        return Location(offset, self._data.tell() - offset)

    def initializer(self, name: str, dtype: str, shape: Sequence[int], location: Location) -> str:
        """Name bytes that ``append`` wrote; several initializers may share a location under different shapes."""
        tensor = TensorProto(name=name, data_type=_TYPES[dtype], dims=list(shape), data_location=TensorProto.EXTERNAL)
        for key, value in (("location", "model.data"), ("offset", location.offset), ("length", location.length)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor
        return name

    def constant(self, name: str, value: Array) -> str:
        """An initializer from memory. The same name twice is the same constant."""
        if name in self._initializers:
            return name
        if value.nbytes >= _INLINE:
            return self.initializer(name, str(value.dtype), value.shape, self.append([value]))
        self._initializers[name] = helper.make_tensor(
            name, _TYPES[str(value.dtype)], value.shape, value.tobytes(), raw=True
        )
        return name

    def save(self) -> Path:
        """Write ``model.onnx`` and close ``model.data``; returns the path of the former."""
        self._data.close()
        graph = helper.make_graph(
            self._nodes, "lsbuild", self._inputs, self._outputs, list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, producer_name="lsbuild", opset_imports=opsets, ir_version=10)
        path = self.folder / "model.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        return path

    def _align(self) -> int:
        at = self._data.tell()
        self._data.write(bytes(-at % _PAGE))
        return self._data.tell()


def load_structure(path: Path) -> Any:
    """Parse a model without touching the files that its tensors name."""
    return onnx.load(str(path), load_external_data=False)
