"""Measures a compiled graph against its float32 twin and refuses one that lost too much; it never changes a graph.

Limits are set so that what the formats are known to cost passes and a wrong graph cannot: see GATES and KL_LIMITS.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lsbuild.api import GateError, Json, StepError
from lsbuild_plugins.onnx.compile.safetensors import Floats

GATES: Mapping[str, float] = {"int8": 0.999, "int8-fast": 0.99, "int4": 0.9, "none": 0.9999}
"""Least mean cosine of an encoder's vectors. Real MiniLM: int8 0.9997, int8-fast 0.994, int4 0.966."""
KL_LIMITS: Mapping[str, float] = {"int4": 2.0, "int8": 0.5}
"""Most mean KL divergence of a decoder, nats per token. Random weights, the worst case, gave 0.3 (int4) and 0.005
(int8); a graph with a matrix in the wrong place gives 4 and more."""


@dataclass(frozen=True, slots=True)
class Closeness:
    """How near two sets of unit vectors are; ``top1`` and ``top10`` are shares of equal nearest neighbours."""

    mean: float
    least: float
    top1: float
    top10: float
    count: int


def sentences() -> list[str]:
    """The sentences that every gate reads; written for lsbuild, in related groups so that neighbours mean something."""
    text = resources.files(__package__ or "").joinpath("sentences.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def open_graph(path: Path) -> Any:
    """An onnxruntime session on the CPU; StepError with the runtime's reason when the graph does not load."""
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = min(4, len(os.sched_getaffinity(0)))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise StepError(
            f"onnxruntime cannot load the compiled graph: {error}",
            where=str(path),
            hint="This is a fault in lsbuild (or in the .onnx file that was given): please report it with the model's name.",
        ) from error


def run(session: Any, outputs: list[str], feeds: Mapping[str, NDArray[Any]]) -> Floats:
    """The first of ``outputs``; StepError with the runtime's reason when the run fails."""
    try:
        found: Floats = session.run(outputs, dict(feeds))[0]
    except Exception as error:
        raise StepError(
            f"onnxruntime cannot run the compiled graph: {error}",
            hint="This is a fault in lsbuild (or in the .onnx file that was given): please report it with the model's name.",
        ) from error
    return found


def vectors(graph: Path, tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> Floats:
    """Embed texts one by one with one of our own encoders: f32[N, D]."""
    session = open_graph(graph)
    return np.concatenate([run(session, ["embedding"], _inputs(tokenizer, text, longest)) for text in texts])


def _inputs(tokenizer: Tokenizer, text: str, longest: int) -> dict[str, NDArray[Any]]:
    ids = np.array([tokenizer.encode(text).ids[:longest]], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones(ids.shape, np.int32)}


def compare(found: Floats, reference: Floats) -> Closeness:
    """Cosines row by row, and agreement of each row's nearest neighbours within its own set."""
    cosines = np.sum(found * reference, axis=1)
    ours, theirs = _neighbours(found), _neighbours(reference)
    shared = [len(set(a) & set(b)) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    return Closeness(
        float(cosines.mean()),
        float(cosines.min()),
        float(np.mean(ours[:, 0] == theirs[:, 0])),
        float(np.mean(shared)) / ours.shape[1],
        len(found),
    )


def _neighbours(units: Floats) -> NDArray[np.int64]:
    scores = units @ units.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]


def too_far(told: str, quantize: str, where: str) -> GateError:
    """The refusal of a graph that lost too much, with the format that loses less."""
    better = {"int4": "int8", "int8-fast": "int8"}.get(quantize, "none")
    return GateError(told, where=where, hint=f"Use quantize: {better}.")


def gate_encoder(closeness: Closeness, quantize: str, where: str) -> Mapping[str, Json]:
    """Facts for the report; GateError when the mean cosine is below the format's limit."""
    limit = GATES[quantize]
    if not closeness.mean >= limit:  # a NaN fails too
        told = (
            f"{quantize} embeddings are too far from float32: mean cosine {closeness.mean:.5f} (limit {limit}), least "
            f"{closeness.least:.4f}, same nearest neighbour {closeness.top1:.0%}, over {closeness.count} sentences"
        )
        raise too_far(told, quantize, where)
    return {
        "cosine_mean": round(closeness.mean, 6),
        "cosine_min": round(closeness.least, 6),
        "same_top1": round(closeness.top1, 4),
        "same_top10": round(closeness.top10, 4),
        "sentences": closeness.count,
    }


def sequences(tokenizer: Tokenizer, vocab: int, count: int, longest: int) -> NDArray[np.int64]:
    """``count`` sequences of real text tokens, i64[count, <= longest], from the gate's sentences."""
    ids = [n for n in tokenizer.encode("\n".join(sentences())).ids if n < vocab]
    width = min(longest, len(ids) // count)
    return np.array(ids[: count * width], np.int64).reshape(count, width)


def logits(session: Any, ids: NDArray[np.int64], layers: int, memory: tuple[int, int]) -> Floats:
    """All logits of one of our own decoders for whole sequences: f32[B, S, V]. ``memory`` is (kv heads, head dim)."""
    batch, length = ids.shape
    empty = np.zeros((batch, memory[0], length, memory[1]), np.float32)
    feeds: dict[str, NDArray[Any]] = {
        "input_ids": ids,
        "seqlens_k": np.full(batch, length - 1, np.int32),
        "total_seq_len": np.array(length, np.int32),
        "logits_rows": np.arange(length, dtype=np.int64),
    }
    feeds |= {f"past_key_values.{n}.{part}": empty for n in range(layers) for part in ("key", "value")}
    return run(session, ["logits"], feeds)


def gate_decoder(found: Floats, ids: NDArray[np.int64], where: str) -> Mapping[str, Json]:
    """Facts of the compiled graph alone; GateError when logits are not finite or say nothing at all."""
    if not np.isfinite(found).all() or float(found.std()) == 0.0:
        raise GateError(
            f"the compiled graph gives {np.count_nonzero(~np.isfinite(found))} logits that are not finite (of {found.size})",
            where=where,
            hint="The weights may hold NaN or overflow float32; check them, or use quantize: none to see whether they do.",
        )
    before = found[:, :-1]
    top = before.max(axis=-1)
    total = np.log(np.exp(before - top[..., None]).sum(axis=-1)) + top
    chosen = np.take_along_axis(before, ids[:, 1:, None], axis=2)[..., 0]
    return {
        "nats_per_token": round(float((total - chosen).mean()), 3),
        "nats_uniform": round(math.log(found.shape[-1]), 3),
    }


def gate_decoder_pair(found: Floats, reference: Floats, quantize: str, where: str) -> Mapping[str, Json]:
    """Facts of the compiled graph against its float32 twin; GateError when the KL divergence is above the limit."""
    ours, theirs = _log_softmax(found), _log_softmax(reference)
    divergence = float(np.mean(np.sum(np.exp(theirs) * (theirs - ours), axis=-1)))
    agreement = float(np.mean(found.argmax(-1) == reference.argmax(-1)))
    if not divergence <= KL_LIMITS[quantize]:
        told = (
            f"{quantize} is too far from float32: KL divergence {divergence:.3f} nats per token (limit "
            f"{KL_LIMITS[quantize]}), same first choice {agreement:.0%}, over {found.shape[0] * found.shape[1]} tokens"
        )
        raise too_far(told, quantize, where)
    return {
        "kl_nats": round(divergence, 5),
        "same_top1": round(agreement, 4),
        "tokens": int(found.shape[0] * found.shape[1]),
    }


def _log_softmax(values: Floats) -> Floats:
    shifted = values - values.max(axis=-1, keepdims=True)
    normal: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normal
