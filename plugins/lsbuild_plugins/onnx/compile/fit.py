"""Gives a finished graph the form that GPUs run whole, and says which execution providers have all of its operators.

CUDA's grouped attention takes float16 only, so a decoder's memory becomes float16 with casts around that operator.
TensorRT knows nothing of com.microsoft, so an encoder in float32 is written with the operators of ONNX alone. Both forms
run on the CPU as well, with the same numbers but for rounding. What a GPU makes of them no build machine can show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from lsbuild.api import Json, StepContext
from lsbuild_plugins.onnx.compile.graph import MICROSOFT, load_structure
from lsbuild_plugins.onnx.compile.plain import plain

Facts = dict[str, Json]
Run = Callable[[StepContext], Facts]

NOT_ON_CUDA = frozenset({"DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention", "MatMulIntegerToFloat"})
"""Operators that quantised graphs may have and CUDA's provider does not (onnxruntime's table of kernels)."""
_ATTENTION = "GroupQueryAttention"


def fitted(step: Run) -> Run:
    """A compile step whose graph is fitted to option ``providers``, where there is one."""

    @wraps(step)
    def run(context: StepContext) -> Facts:
        facts = step(context)
        wanted: list[str] = context.options.get("providers", [])
        return {**facts, **fit(context.out / "model.onnx", wanted, facts)} if wanted else facts

    return run


def fit(path: Path, wanted: Iterable[str], facts: Mapping[str, Json]) -> Facts:
    """Rewrite ``path`` for ``wanted``. Facts: ``runs_on``, ``warnings``, and what changed of ``facts``."""
    asked = tuple(wanted)
    model = load_structure(path)
    found: Facts = {}
    if "cuda" in asked and half_memory(model.graph) and "kv_bytes_per_token" in facts:
        found["kv_bytes_per_token"] = facts["kv_bytes_per_token"] // 2
    if "tensorrt" in asked:
        plain(model.graph)
    path.write_bytes(model.SerializeToString(deterministic=True))
    lacks = {name: lacking(model.graph, name) for name in asked}
    found["runs_on"] = [name for name in asked if not lacks[name]]
    told = [
        f"{name} does not have {', '.join(kinds)}: this model runs on "
        f"{' or '.join(found['runs_on']) or 'the CPU'}{_way_out(kinds)}"
        for name, kinds in lacks.items()
        if kinds
    ]
    return {**found, "warnings": [*facts.get("warnings", []), *told]}


def _way_out(kinds: Iterable[str]) -> str:
    return "" if _ATTENTION in kinds else "; quantize: none gives an encoder another form"


def lacking(graph: Any, provider: str) -> tuple[str, ...]:
    """Operators of ``graph`` that a provider is known not to have."""
    kinds = {(node.domain, node.op_type) for node in graph.node}
    if provider == "tensorrt":
        own = {kind for domain, kind in kinds if domain == MICROSOFT}
        return tuple(sorted(own | ({"SimplifiedLayerNormalization"} & {kind for _, kind in kinds})))
    if provider == "cuda":
        names = {kind for _, kind in kinds} & NOT_ON_CUDA
        if any(node.op_type == _ATTENTION for node in graph.node) and _past_type(graph) == TensorProto.FLOAT:
            names.add(f"{_ATTENTION} of float32")
        return tuple(sorted(names))
    return ()


def half_memory(graph: Any) -> bool:
    """Make keys and values float16, with casts around attention; False where there is nothing to do."""
    if _past_type(graph) != TensorProto.FLOAT:
        return False
    memory = {
        name for node in graph.node if node.op_type == _ATTENTION for name in (*node.input[3:5], *node.output[1:3])
    }
    for value in (*graph.input, *graph.output):
        if value.name in memory:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    nodes: list[Any] = []
    made: dict[str, str] = {}
    for node in graph.node:
        if node.op_type != _ATTENTION:
            nodes.append(node)
            continue
        for place in (0, 1, 2, 7, 8):
            if place < len(node.input) and node.input[place]:
                node.input[place] = _cast(nodes, made, node.input[place], TensorProto.FLOAT16)
        whole, half = node.output[0], f"{node.output[0]}.half"
        node.output[0] = half
        nodes += [node, helper.make_node("Cast", [half], [whole], name=f"{half}.cast", to=TensorProto.FLOAT)]
    del graph.node[:]
    graph.node.extend(nodes)
    return True


def _cast(nodes: list[Any], made: dict[str, str], name: str, to: int) -> str:
    if name not in made:
        made[name] = f"{name}.half"
        nodes.append(helper.make_node("Cast", [name], [made[name]], name=made[name], to=to))
    return made[name]


def _past_type(graph: Any) -> int:
    """Element type of what attention is given as its past; UNDEFINED where no input of the graph is one."""
    past = {node.input[3] for node in graph.node if node.op_type == _ATTENTION and len(node.input) > 4}
    types = {value.type.tensor_type.elem_type for value in graph.input if value.name in past}
    return next(iter(types)) if len(types) == 1 else TensorProto.UNDEFINED
