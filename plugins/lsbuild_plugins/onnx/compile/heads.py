"""What graphs with a head share, rerankers and classifiers: its labels, its logits one by one, and what they may lose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lsbuild.api import GateError
from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint
from lsbuild_plugins.onnx.compile.encoders import EncoderShape
from lsbuild_plugins.onnx.compile.existing import Port
from lsbuild_plugins.onnx.compile.safetensors import Floats, Weights
from lsbuild_plugins.onnx.compile.taken import TextGraph
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.pairs import Pair

LIMITS: Mapping[str, float] = {"int8": 0.99, "int8-fast": 0.95, "int4": 0.8, "none": 0.9999}
"""How near logits have to be to those of float32 over the gate's texts: correlation of a reranker's, cosine of a classifier's."""


def labels_of(weights: Weights, shape: EncoderShape, checkpoint: Checkpoint, cannot: str, hint: str) -> int:
    """How many labels the head has; SourceError that says what the model ``cannot`` do when there is no head."""
    name = f"{shape.names.head.out}.weight"
    if name not in weights:
        raise checkpoint.fault(f"has no classification head ({name} is missing), so it cannot {cannot}", hint)
    return int(weights.get(name).shape[0])


def logits_port(graph: TextGraph, checkpoint: Checkpoint, *names: str) -> Port:
    """The output of a graph taken as it was that has one of ``names``; SourceError when there is none."""
    found = [port for port in graph.taken.outputs if port.name in names and port.dtype == "float32"]
    if not found:
        raise checkpoint.fault(
            f"{graph.name} gives {', '.join(port.name for port in graph.taken.outputs)}, and no logits",
            "Export it with optimum's task text-classification.",
        )
    return found[0]


def logits(folder: Path, card: model_format.Reranker | model_format.Classifier, inputs: Iterable[Pair]) -> Floats:
    """Run ``inputs`` one by one through the graph in ``folder``: f32[N, labels]."""
    session = gate.open_graph(folder / "model.onnx")
    rows = [gate.run(session, [card.output], _feeds(each, card)) for each in inputs]
    return np.stack([row.reshape(-1) for row in rows])


def _feeds(given: Pair, card: model_format.Reranker | model_format.Classifier) -> dict[str, Any]:
    ids = np.array([given.ids], np.int64)
    values = {
        "input_ids": ids,
        "attention_mask": np.ones(ids.shape, card.mask),
        "token_type_ids": np.array([given.types], np.int64),
    }
    return {name: values[name] for name in card.inputs}


def refuse_silent(found: Floats, reference: Floats, each: str, where: str) -> None:
    """GateError for logits that say nothing about ``each`` input: not finite, or always the same."""
    if not np.isfinite(found).all() or float(reference.std(axis=0).max()) == 0.0:
        raise GateError(
            f"the compiled graph gives logits that are not finite, or the same for every {each}",
            where=where,
            hint="The weights may hold NaN, or the head was never trained; check the checkpoint with transformers.",
        )
