"""The compile step of a reranker: a classifier with one label in, a model folder and its measured facts out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from lsbuild.api import Json, StepContext
from lsbuild_plugins.onnx.compile import gate, heads
from lsbuild_plugins.onnx.compile.bert import emit_reranker
from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint, open_checkpoint
from lsbuild_plugins.onnx.compile.encoders import ENCODERS, EncoderShape, read_encoder
from lsbuild_plugins.onnx.compile.export import exported
from lsbuild_plugins.onnx.compile.families import FAMILIES
from lsbuild_plugins.onnx.compile.fit import fitted
from lsbuild_plugins.onnx.compile.heads import LIMITS, labels_of, logits_port, refuse_silent
from lsbuild_plugins.onnx.compile.linear import SCHEMES, Format
from lsbuild_plugins.onnx.compile.pooling import longest_input
from lsbuild_plugins.onnx.compile.safetensors import Floats, Weights
from lsbuild_plugins.onnx.compile.step import allow_export, quiet
from lsbuild_plugins.onnx.compile.taken import PER_TENSOR, form_of_export, leave_as_given, take_text_graph
from lsbuild_plugins.onnx.compile.tokens import ship_tokenizer
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.pairs import Pair, Pairs, logistic, separates

_QUERIES, _PASSAGES = 12, 8
_WANTED = "Take a cross-encoder with one label, such as one trained on MS MARCO or a bge-reranker"


@fitted
def reranker(context: StepContext) -> dict[str, Json]:
    """Compile a cross-encoder. Options: quantize, context, export."""
    checkpoint = open_checkpoint(context.sources["weights"])
    if not checkpoint.has_weights():
        leave_as_given(checkpoint, context)
        return _take(checkpoint, context, None)
    config = checkpoint.config()
    if str(config.get("model_type")) not in ENCODERS:
        allow_export(checkpoint, config, context, ENCODERS, "llm" if config.get("model_type") in FAMILIES else "")
        _refuse_labels(config, None, checkpoint)
        with exported(checkpoint, "text-classification", context) as found:
            return _take(found, context, form_of_export("embedding", checkpoint, context))
    shape = read_encoder(config, checkpoint.uri)
    weights = checkpoint.weights()
    check_head(weights, shape, config, checkpoint)
    tokens = longest_input(checkpoint, shape.positions, context.options.get("context"))
    tokenizer = _ship_tokenizer(checkpoint, context.out)
    quantize = str(context.options["quantize"])
    scheme = SCHEMES["embedding", quantize]
    inputs = emit_reranker(weights, shape, scheme, tokens, context.out, context.progress)
    card = model_format.Reranker(max_tokens=tokens, inputs=inputs, batch_invariant=not scheme.body.dynamic)
    model_format.write(context.out, card)
    return {
        "architecture": config["model_type"],
        "parameters": weights.parameters,
        "quantize": quantize,
        "context_length": tokens,
        **_measure(weights, shape, tokens, tokenizer, quantize, checkpoint.uri, context.out),
    }


def check_head(weights: Weights, shape: EncoderShape, config: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """SourceError that says what to take instead when there is no head, or one with several labels."""
    hint = f"{_WANTED}; for an encoder that makes vectors set type: embedding."
    _refuse_labels(config, labels_of(weights, shape, checkpoint, "score a passage", hint), checkpoint)


def _refuse_labels(config: Mapping[str, Any], rows: int | None, checkpoint: Checkpoint) -> None:
    """SourceError for several labels; ``rows`` is what the weights or the graph have, None asks config.json."""
    named = config.get("id2label")
    names = [str(label) for label in named.values()] if isinstance(named, dict) else []
    count = rows if rows is not None else len(names) or 1
    if count != 1:
        shown = f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if len(names) == count else ""
        raise checkpoint.fault(
            f"its head has {count} labels{shown}: it sorts texts into classes and gives no score of relevance",
            f"{_WANTED}.",
        )


def _ship_tokenizer(checkpoint: Checkpoint, out: Path) -> Tokenizer:
    tokenizer = ship_tokenizer(checkpoint, out)
    if not separates(tokenizer):
        raise checkpoint.fault(
            "tokenizer.json does not say how a pair of texts is written (it has no post-processor for one)",
            "Write it again with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).",
        )
    return tokenizer


def _measure(
    weights: Weights, shape: EncoderShape, tokens: int, tokenizer: Tokenizer, quantize: str, where: str, out: Path
) -> Mapping[str, Json]:
    """Compare with a float32 graph of the same weights, which is thrown away."""
    pairs = gate_pairs(tokenizer, tokens)
    found = logits(out, pairs)[:, 0]
    with tempfile.TemporaryDirectory(prefix="lsbuild-") as folder:
        twin = Path(folder)
        emit_reranker(weights, shape, SCHEMES["embedding", "none"], tokens, twin, quiet)
        model_format.write(twin, model_format.read(out))
        return gate_reranker(found, logits(twin, pairs)[:, 0], quantize, where)


def gate_pairs(tokenizer: Tokenizer, tokens: int) -> list[Pair]:
    """Pairs of the gate's sentences, grouped by query: each query with as many passages, some of them near to it."""
    texts = gate.sentences()
    pairs = Pairs(tokenizer, tokens)
    found: list[Pair] = []
    for number in range(_QUERIES):
        place = number * len(texts) // _QUERIES
        passages = [texts[(place + 1 + step * step) % len(texts)] for step in range(_PASSAGES)]
        query = pairs.query(texts[place])
        query.truncate(pairs.longest_query)
        found += pairs.encode(query, passages)
    return found


def logits(folder: Path, pairs: list[Pair]) -> Floats:
    """Run pairs one by one through the model in ``folder``: f32[N, labels]."""
    card = model_format.read(folder)
    assert isinstance(card, model_format.Reranker)  # noqa: S101 - written a few lines above
    return heads.logits(folder, card, pairs)


def gate_reranker(found: Floats, reference: Floats, quantize: str, where: str) -> Mapping[str, Json]:
    """Facts for the report; GateError when the logits are too far from those of float32, or say nothing at all."""
    refuse_silent(found, reference, "pair", where)
    correlation = float(np.corrcoef(found, reference)[0, 1])
    limit = LIMITS[quantize]
    rows = (found.reshape(_QUERIES, -1), reference.reshape(_QUERIES, -1))
    same = float(np.mean(rows[0].argmax(1) == rows[1].argmax(1)))
    if not correlation >= limit:
        told = f"{quantize} scores are too far from float32: correlation {correlation:.4f} (limit {limit})"
        raise gate.too_far(f"{told}, same best passage for {same:.0%} of {_QUERIES} queries", quantize, where)
    return {
        "score_correlation": round(correlation, 6),
        "score_difference": round(max(map(_apart, found.tolist(), reference.tolist())), 6),
        "same_top1": round(same, 4),
        "pairs": len(found),
    }


def _apart(one: float, other: float) -> float:
    """How far the scores of two logits lie from each other."""
    return abs(logistic(one) - logistic(other))


def _take(checkpoint: Checkpoint, context: StepContext, form: Format | None) -> dict[str, Json]:
    """A graph from pairs of token ids to ``logits``, as optimum exports it."""
    graph = take_text_graph(checkpoint, context, form)
    output = logits_port(graph, checkpoint, "logits", "logit")
    tokenizer = _ship_tokenizer(checkpoint, context.out)
    card = model_format.Reranker(
        max_tokens=graph.tokens,
        inputs=graph.inputs,
        mask=graph.mask,
        output=output.name,
        batch_invariant=not graph.taken.operators & PER_TENSOR,
    )
    model_format.write(context.out, card)
    found = logits(context.out, gate_pairs(tokenizer, graph.tokens))
    _refuse_labels(checkpoint.json("config.json"), found.shape[1], checkpoint)
    facts = gate_reranker(found[:, 0], found[:, 0], "none", checkpoint.uri)
    return {"graph": graph.name, "context_length": graph.tokens, "pairs": facts["pairs"], **graph.facts}
