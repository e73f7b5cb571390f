"""Writes the fused operators of an encoder with those of ONNX alone, for engines that know no others; moves no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lsbuild_plugins.onnx.compile.graph import MICROSOFT

_FAR = -10000.0
"""Added to scores of what must not be attended to; float16 holds it."""


def plain(graph: Any) -> None:
    """Replace what can be replaced; a node that cannot stays as it is."""
    writer = _Writer(graph)
    forms: dict[str, Callable[[Any], bool]] = {
        "FusedMatMul": writer.matmul,
        "MultiHeadAttention": writer.attention,
        "SkipLayerNormalization": writer.skip_norm,
        "Gelu": writer.gelu,
    }
    for node in list(graph.node):
        form = forms.get(node.op_type) if node.domain == MICROSOFT else None
        if form is None or not form(node):
            writer.nodes.append(node)
    del graph.node[:]
    graph.node.extend(writer.nodes)


class _Writer:
    def __init__(self, graph: Any) -> None:
        self.nodes: list[Any] = []
        self._graph = graph
        self._known: set[str] = {value.name for value in graph.initializer}

    def matmul(self, node: Any) -> bool:
        """alpha * A @ B.T; a transposed A is left alone."""
        given = _attributes(node)
        if given.get("transA", 0) or given.get("transBatchA", 0) or given.get("transBatchB", 0):
            return False
        a, b = node.input
        out, alpha = node.output[0], given.get("alpha", 1.0)
        if given.get("transB", 0):
            if not self._is_matrix(b):
                return False
            b = self._add("Transpose", [b], f"{out}.turned", perm=[1, 0])
        product = self._add("MatMul", [a, b], out if alpha == 1.0 else f"{out}.product")
        if alpha != 1.0:
            self._add("Mul", [product, self._number(alpha)], out)
        return True

    def skip_norm(self, node: Any) -> bool:
        """Norm of the sum of two; further outputs or a bias are left alone."""
        if [name for name in node.output[1:] if name] or len(node.input) > 4:
            return False
        x, skip, *weights = node.input
        out = node.output[0]
        total = self._add("Add", [x, skip], f"{out}.sum")
        self._add("LayerNormalization", [total, *weights], out, axis=-1, epsilon=_attributes(node)["epsilon"])
        return True

    def gelu(self, node: Any) -> bool:
        """The same operator, which ONNX has since opset 20."""
        self._add("Gelu", list(node.input), node.output[0], approximate="none")
        return True

    def attention(self, node: Any) -> bool:
        """softmax(q @ k.T * scale + mask + bias) @ v, with separate q, k and v and a mask of tokens."""
        q, k, v, bias, mask, *more = (str(name) for name in node.input)
        if bias or len(more) > 1 or not (k and v and mask):
            return False
        given, out = _attributes(node), node.output[0]
        heads = self._constant("plain.heads", np.array([0, 0, given["num_heads"], -1], np.int64))
        turned = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
        split = {
            part: self._add(
                "Transpose",
                [self._add("Reshape", [x, heads], f"{out}.{part}.heads")],
                f"{out}.{part}.turned",
                perm=turned[part],
            )
            for part, x in (("q", q), ("k", k), ("v", v))
        }
        scores = self._add("MatMul", [split["q"], split["k"]], f"{out}.products")
        scores = self._add("Mul", [scores, self._number(given["scale"])], f"{out}.scaled")
        for place, term in enumerate((self._hidden(mask), *more)):
            scores = self._add("Add", [scores, term], f"{out}.with.{place}")
        weights = self._add("Softmax", [scores], f"{out}.weights", axis=-1)
        found = self._add("MatMul", [weights, split["v"]], f"{out}.found")
        joined = self._constant("plain.joined", np.array([0, 0, -1], np.int64))
        back = self._add("Transpose", [found], f"{out}.back", perm=[0, 2, 1, 3])
        self._add("Reshape", [back, joined], out)
        return True

    def _hidden(self, mask: str) -> str:
        """i32[B, S], 1 for a token -> f32[B, 1, 1, S], 0 for a token."""
        if "plain.hidden" not in self._known:
            self._known.add("plain.hidden")
            kept = self._add("Cast", [mask], "plain.kept", to=TensorProto.FLOAT)
            gone = self._add("Sub", [self._number(1.0), kept], "plain.gone")
            far = self._add("Mul", [gone, self._number(_FAR)], "plain.far")
            self._add("Unsqueeze", [far, self._constant("plain.axes", np.array([1, 2], np.int64))], "plain.hidden")
        return "plain.hidden"

    def _is_matrix(self, name: str) -> bool:
        return any(value.name == name and len(value.dims) == 2 for value in self._graph.initializer)

    def _number(self, value: float) -> str:
        return self._constant(f"plain.number.{value!r}", np.array(value, np.float32))

    def _constant(self, name: str, value: Any) -> str:
        if name not in self._known:
            self._known.add(name)
            self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output


def _attributes(node: Any) -> dict[str, Any]:
    def pairs() -> Iterator[tuple[str, Any]]:
        for attribute in node.attribute:
            yield attribute.name, helper.get_attribute_value(attribute)

    return dict(pairs())
