"""Stores the products of an exported graph in 8 or 4 bits: a rewrite of a graph in memory, without files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lsbuild_plugins.onnx.compile.graph import MICROSOFT
from lsbuild_plugins.onnx.compile.linear import ACCURACY, Format
from lsbuild_plugins.onnx.compile.quantise import quantise

Read = Callable[[Any], NDArray[Any]]
"""Initializer -> its values."""


def repack(model: Any, read: Read, form: Format) -> int:
    """Replace products with a constant float32 matrix by MatMulNBits; returns how many nodes were replaced.

    ``MatMul(x, W)`` and ``Gemm(x, W, b)`` with W [K, N] (or [N, K] transposed) qualify. A matrix that anything else
    reads, such as an embedding that is also the head, is left alone; so is a graph with branches or loops.
    """
    if any(attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute):
        return 0
    _fold_aliases(model.graph)
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    count = 0
    for tensor in [each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT]:
        nodes = users.get(tensor.name, [])
        turned = {_turned(node, tensor.name) for node in nodes}
        if len(tensor.dims) != 2 or len(turned) != 1 or None in turned:
            continue
        rows, width = tensor.dims if True in turned else reversed(tensor.dims)
        fitted = form.of(width)
        if fitted.bits == 32:
            continue
        values = read(tensor).astype(np.float32, copy=False)
        codes, scales = quantise(
            np.ascontiguousarray(values if True in turned else values.T), fitted.bits, fitted.block
        )
        model.graph.initializer.remove(tensor)
        model.graph.initializer.append(
            numpy_helper.from_array(codes.reshape(rows, width // fitted.block, -1), f"{tensor.name}.codes")
        )
        model.graph.initializer.append(numpy_helper.from_array(scales, f"{tensor.name}.scales"))
        for node in nodes:
            _rewrite(node, tensor.name, rows, width, fitted)
        count += len(nodes)
    if count and MICROSOFT not in {entry.domain for entry in model.opset_import}:
        model.opset_import.add(domain=MICROSOFT, version=1)
    return count


def _fold_aliases(graph: Any) -> None:
    """Let nodes read initializers directly where an Identity stands between (exporters share weights that way)."""
    constants = {tensor.name for tensor in graph.initializer}
    given = {value.name for value in graph.output}
    alias: dict[str, str] = {}
    for node in list(graph.node):
        node.input[:] = [alias.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.input[0] in constants and node.output[0] not in given:
            alias[node.output[0]] = node.input[0]
            graph.node.remove(node)


def _turned(node: Any, name: str) -> bool | None:
    """Whether the node reads the matrix as [N, K] (True) or [K, N]; None when it is no product that can be replaced."""
    if node.domain not in ("", "ai.onnx") or len(node.input) < 2 or node.input[1] != name or name == node.input[0]:
        return None
    if node.op_type == "MatMul":
        return False
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
    return bool(attributes.get("transB", 0)) if node.op_type == "Gemm" and plain else None


def _rewrite(node: Any, name: str, rows: int, width: int, form: Format) -> None:
    bias = ["", "", node.input[2]] if len(node.input) > 2 and node.input[2] else []
    node.input[:] = [node.input[0], f"{name}.codes", f"{name}.scales", *bias]
    node.op_type, node.domain = "MatMulNBits", MICROSOFT
    del node.attribute[:]
    settings = {"K": width, "N": rows, "bits": form.bits, "block_size": form.block, "accuracy_level": ACCURACY}
    node.attribute.extend(helper.make_attribute(key, settings[key]) for key in sorted(settings))
