"""Takes an ONNX file that exists: checks what it may name, copies it into our layout, and reads its inputs and outputs.

A file is taken as it is; an export of ours may have its large products stored in 8 or 4 bits on the way (``repack``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint
from lsbuild_plugins.onnx.compile.graph import MICROSOFT, load_structure
from lsbuild_plugins.onnx.compile.linear import Format
from lsbuild_plugins.onnx.compile.repack import repack

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", MICROSOFT}
_INLINE = 1024


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output. Symbolic dimensions are 0; ``dtype`` is numpy's name, or ONNX's number in words."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a copied graph takes and gives."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: frozenset[str] = frozenset()
    repacked: int = 0
    """Products that were stored in fewer bits."""


def choose(checkpoint: Checkpoint) -> str:
    """The name of the graph to take: model.onnx, onnx/model.onnx or the only one; SourceError when that is not clear."""
    names = checkpoint.graphs()
    for wanted in ("model.onnx", "onnx/model.onnx"):
        if wanted in names:
            return wanted
    if len(names) == 1:
        return names[0]
    raise checkpoint.fault(
        f"holds {len(names)} graphs and none is called model.onnx: {', '.join(names[:5])}",
        "Name one of them as the source, or leave only one in the folder.",
    )


def take(checkpoint: Checkpoint, name: str, out: Path, form: Format | None = None) -> Taken:
    """Copy a graph to ``out`` as model.onnx and model.data; tensors of other files are read from the source only.

    Args:
        form: store products with constant float32 matrices as MatMulNBits in this format; None changes nothing.

    Raises:
        SourceError: not ONNX, operators of unknown domains, or a tensor that names a file outside of the source.
    """
    try:
        model = load_structure(checkpoint.files[name])
    except Exception as error:  # protobuf and onnx raise classes of their own
        raise checkpoint.fault(f"{name} is no ONNX model ({error})", "Export it again.") from error
    foreign = sorted({entry.domain for entry in model.opset_import} - _DOMAINS)
    if foreign:
        raise checkpoint.fault(
            f"{name} needs operators of {', '.join(foreign)}, which onnxruntime does not have",
            "Export it without custom operators.",
        )
    _refuse_hidden(model, checkpoint, name)
    with (out / "model.data").open("wb") as data:
        copier = _Copier(checkpoint, PurePosixPath(name).parent, data)
        repacked = repack(model, copier.array, form) if form is not None and form.bits != 32 else 0
        for tensor in model.graph.initializer:
            copier.move(tensor)
    (out / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    constants = {tensor.name for tensor in model.graph.initializer}
    return Taken(
        tuple(_port(value) for value in model.graph.input if value.name not in constants),
        tuple(_port(value) for value in model.graph.output),
        frozenset(node.op_type for node in model.graph.node),
        repacked,
    )


def _refuse_hidden(model: Any, checkpoint: Checkpoint, name: str) -> None:
    """Tensors inside of nodes must hold their own bytes: only top-level ones may lie in other files."""
    graphs: list[Iterable[Any]] = [model.graph.node, *(function.node for function in model.functions)]
    while graphs:
        for node in graphs.pop():
            for attribute in node.attribute:
                inner = [attribute.g, *attribute.graphs]
                graphs.extend(graph.node for graph in inner)
                tensors = [attribute.t, *attribute.tensors, *(t for graph in inner for t in graph.initializer)]
                if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
                    raise checkpoint.fault(
                        f"{name}: node {node.name!r} keeps a tensor in another file",
                        "Save the model with external data for initializers only.",
                    )


@dataclass(frozen=True, slots=True)
class _Copier:
    checkpoint: Checkpoint
    folder: PurePosixPath
    data: Any

    def bytes_of(self, tensor: Any) -> bytes | None:
        """The raw bytes of an external tensor; None when the tensor holds its values itself."""
        if tensor.data_location != TensorProto.EXTERNAL:
            return None
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        path = self.checkpoint.files.get(str(self.folder / location)) if _plain(location) else None
        if path is None:
            raise self.checkpoint.fault(
                f"tensor {tensor.name} lies in {location!r}, which is not a file of the source",
                "Give the folder that holds the .onnx file and its data, not the .onnx file alone.",
            )
        try:
            offset, size = int(entries.get("offset", 0)), path.stat().st_size
            length = int(entries.get("length", size - offset))
        except ValueError:
            offset = length = -1
        if offset < 0 or length < 0 or offset + length > size:
            raise self.checkpoint.fault(
                f"tensor {tensor.name} claims bytes {offset} to {offset + length} of {location} ({size} bytes)",
                "The data file is cut short or belongs to another model: fetch both again.",
            )
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)

    def array(self, tensor: Any) -> NDArray[Any]:
        """The tensor's values."""
        raw = self.bytes_of(tensor)
        if raw is None:
            return np.asarray(numpy_helper.to_array(tensor))
        whole = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=raw)
        return np.asarray(numpy_helper.to_array(whole))

    def move(self, tensor: Any) -> None:
        """Put a large tensor's bytes into model.data; small ones go into the graph."""
        raw = self.bytes_of(tensor)
        if raw is None:
            raw = tensor.raw_data if tensor.HasField("raw_data") else None
        if raw is None:
            return
        if len(raw) < _INLINE:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = raw
            return
        self.data.write(bytes(-self.data.tell() % 4096))
        offset = self.data.tell()
        self.data.write(raw)
        tensor.ClearField("raw_data")
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "model.data"), ("offset", offset), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))


def _plain(location: str) -> bool:
    path = PurePosixPath(location)
    return bool(location) and not path.is_absolute() and ".." not in path.parts and "\\" not in location


def _port(value: Any) -> Port:
    kind = value.type.tensor_type
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:
        dtype = f"type {kind.elem_type}"
    return Port(value.name, dtype, tuple(int(dim.dim_value) for dim in kind.shape.dim))
