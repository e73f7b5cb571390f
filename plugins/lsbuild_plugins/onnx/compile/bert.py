"""Emits encoders of the BERT family, with pooling or a head that scores inside the graph; knows tensors, not files or gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lsbuild.api import SourceError
from lsbuild_plugins.onnx.compile.disentangled import Positions
from lsbuild_plugins.onnx.compile.encoders import EncoderShape
from lsbuild_plugins.onnx.compile.graph import MICROSOFT, Graph
from lsbuild_plugins.onnx.compile.linear import FLOAT, Format, Scheme, embed, joined, linear, store
from lsbuild_plugins.onnx.compile.safetensors import Floats, Stacked, Weights

Pooling = Literal["mean", "cls"]
Progress = Callable[[int, int, str], None]


def emit_encoder(
    weights: Weights, shape: EncoderShape, scheme: Scheme, pooling: Pooling, tokens: int, out: Path, progress: Progress
) -> None:
    """Write ``model.onnx`` and ``model.data``; inputs and output are those of ``serve.format.Encoder``.

    Args:
        tokens: longest input; position embeddings beyond it are left out.
    """
    with Graph(out) as graph:
        made = _Emitter(graph, weights, shape, scheme, tokens)
        made.pool(made.hidden(progress), pooling)
        graph.save()


def emit_reranker(
    weights: Weights, shape: EncoderShape, scheme: Scheme, tokens: int, out: Path, progress: Progress
) -> tuple[str, ...]:
    """Write ``model.onnx`` and ``model.data`` of a classifier with one label; returns the names of the graph's inputs.

    Inputs and output are those of ``serve.format.Reranker``. The head stays in float32: it is small, and what it loses
    no layer makes good again.
    """
    with Graph(out) as graph:
        made = _Emitter(graph, weights, shape, scheme, tokens, reads="pairs")
        made.judge(made.hidden(progress), 1)
        graph.save()
        return ("input_ids", "attention_mask", *(("token_type_ids",) if made.typed else ()))


def emit_classifier(
    weights: Weights, shape: EncoderShape, labels: int, scheme: Scheme, tokens: int, out: Path, progress: Progress
) -> None:
    """Write ``model.onnx`` and ``model.data`` of a classifier of single texts; inputs and output as of
    ``serve.format.Classifier``, the head in float32 as of ``emit_reranker``."""
    with Graph(out) as graph:
        made = _Emitter(graph, weights, shape, scheme, tokens, reads="judged")
        made.judge(made.hidden(progress), labels)
        graph.save()


@dataclass(frozen=True, slots=True)
class _Emitter:
    graph: Graph
    weights: Weights
    shape: EncoderShape
    scheme: Scheme
    tokens: int
    reads: Literal["texts", "judged", "pairs"] = "texts"
    """``judged``: the first token alone speaks for the text; ``pairs``: for two texts, which their types tell apart."""

    @property
    def prefix(self) -> str:
        wanted = "embeddings.word_embeddings.weight"
        found = [prefix for prefix in self.shape.names.prefixes if prefix + wanted in self.weights]
        return found[0] if found else ""

    @property
    def typed(self) -> bool:
        """Whether the graph takes token types: those of RoBERTa and DistilBERT have one or none."""
        name = self.prefix + "embeddings.token_type_embeddings.weight"
        return self.reads == "pairs" and name in self.weights and self.weights.get(name).shape[0] > 1

    def hidden(self, progress: Progress) -> str:
        """f32[B, S, D], or f32[B, 1, D] where the first token speaks for all."""
        x = self.embeddings()
        for index in range(self.shape.layers):
            progress(index, self.shape.layers, f"layer {index + 1} of {self.shape.layers}")
            x = self.layer(index, x)
        return x

    def embeddings(self) -> str:
        graph, shape, at = self.graph, self.shape, self.prefix + "embeddings."
        ids = graph.input("input_ids", "int64", ["batch", "length"])
        graph.input("attention_mask", "int32", ["batch", "length"])
        words = store(
            graph, self.weights.get(at + "word_embeddings.weight", shape.vocab, shape.hidden), self.scheme.ends
        )
        x = embed(graph, words, ids, "words")
        graph.node("Shape", (ids,), "length.now", start=1, end=2)  # i64[1]
        if shape.disentangled is not None:
            return self.norm(self.typed_words(x, at), at + "LayerNorm", "words.norm")
        first = shape.first_position
        places = self.weights.get(at + "position_embeddings.weight", first + shape.positions, shape.hidden)
        table = places.rows(first, first + self.tokens)
        if self.typed:
            x = self.typed_words(x, at)
        elif at + "token_type_embeddings.weight" in self.weights:  # every token is of type 0
            table = table + self.weights.get(at + "token_type_embeddings.weight").rows(0, 1)
        zero = graph.constant("zero", np.array([0], np.int64))
        positions = graph.constant("positions.table", table)
        sliced = graph.node("Slice", (positions, zero, "length.now", zero), "positions")
        return self.norm(graph.node("Add", (x, sliced), "words.sum"), at + "LayerNorm", "words.norm")

    def typed_words(self, x: str, at: str) -> str:
        """``x`` with the embeddings of token types, where the model has any."""
        graph, name = self.graph, at + "token_type_embeddings.weight"
        if name not in self.weights:
            return x
        types = graph.constant("types.table", self.weights.get(name).array())
        if not self.typed:
            zero = graph.constant("zero", np.array([0], np.int64))
            return graph.node("Add", (x, graph.node("Gather", (types, zero), "types", axis=0)), "words.typed")
        type_ids = graph.input("token_type_ids", "int64", ["batch", "length"])
        return graph.node("Add", (x, graph.node("Gather", (types, type_ids), "types", axis=0)), "words.typed")

    def layer(self, index: int, x: str) -> str:
        names, shape, at = self.shape.names, self.shape, f"layers.{index}"
        source = self.prefix + names.layer.format(index)
        packed = self.dense(
            x, tuple(source + part for part in names.qkv), (shape.hidden,) * 3, shape.hidden, f"{at}.qkv"
        )
        q, k, v = self.graph.nodes("Split", (packed,), (f"{at}.q", f"{at}.k", f"{at}.v"), axis=-1, num_outputs=3)
        attended = self.attended(q, k, v, source, at)
        if self.reads != "texts" and index == shape.layers - 1:  # nothing reads the other tokens after this attention
            x, attended = self.first(x, f"{at}.first"), self.first(attended, f"{at}.attention.first")
        y = self.dense(attended, (source + names.out,), (shape.hidden,), shape.hidden, f"{at}.out")
        x = self.skip_norm(x, y, source + names.norm1, f"{at}.norm1")
        y = self.dense(x, (source + names.up,), (shape.ffn,), shape.hidden, f"{at}.up")
        y = self.dense(
            self.activated(y, f"{at}.active"), (source + names.down,), (shape.hidden,), shape.ffn, f"{at}.down"
        )
        return self.skip_norm(x, y, source + names.norm2, f"{at}.norm2")

    def attended(self, q: str, k: str, v: str, source: str, at: str) -> str:
        shape, found = self.shape, self.shape.disentangled
        bias = (self.relative_bias(),) if shape.names.relative else ()
        terms = 1
        if found is not None and found.kinds:
            positions = Positions(
                self.graph, self.weights, found, shape.heads, self.tokens, shape.epsilon, self.prefix, self.scheme.ends
            )
            bias = (positions.bias(source, q, k, shape.hidden, f"{at}.distances"),)
            terms += len(found.kinds)
        return self.graph.node(
            "MultiHeadAttention", (q, k, v, "", "attention_mask", *bias), f"{at}.attention",
            domain=MICROSOFT, num_heads=shape.heads, scale=(shape.hidden // shape.heads * terms) ** -0.5,
        )  # fmt: skip

    def activated(self, x: str, name: str) -> str:
        match self.shape.activation:
            case "gelu":
                return self.graph.node("Gelu", (x,), name, domain=MICROSOFT)
            case "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast":
                return self.graph.node("Gelu", (x,), name, approximate="tanh")
            case "relu":
                return self.graph.node("Relu", (x,), name)
        raise SourceError(
            f"the activation {self.shape.activation!r} is not supported",
            where=self.weights.where,
            hint="Supported: gelu, gelu_new, relu.",
        )

    def relative_bias(self) -> str:
        """f32[1, heads, S, S]: a row per distance is made here, the graph only picks from it."""
        graph = self.graph
        if "relative.table" in graph:
            return "relative.bias"
        # learnt: f32[buckets, heads]
        learnt = self.weights.get(self.prefix + "encoder.relative_attention_bias.weight").array()
        reach = self.tokens - 1
        graph.constant("relative.table", learnt[_buckets(np.arange(-reach, reach + 1), len(learnt))])
        ends = (
            graph.constant("relative.scalar", np.array(0, np.int64)),
            graph.constant("relative.step", np.array(1, np.int64)),
        )
        count = graph.node("Squeeze", ("length.now",), "relative.length")
        steps = graph.node("Range", (ends[0], count, ends[1]), "relative.range")
        rows = graph.node(
            "Unsqueeze", (steps, graph.constant("relative.one", np.array([1], np.int64))), "relative.rows"
        )
        offset = graph.node("Sub", (steps, rows), "relative.distance")  # key - query
        index = graph.node(
            "Add", (offset, graph.constant("relative.reach", np.array(reach, np.int64))), "relative.index"
        )
        picked = graph.node("Gather", ("relative.table", index), "relative.picked", axis=0)
        turned = graph.node("Transpose", (picked,), "relative.turned", perm=[2, 0, 1])
        return graph.node("Unsqueeze", (turned, graph.constant("zero", np.array([0], np.int64))), "relative.bias")

    def first(self, x: str, name: str) -> str:
        """f32[B, S, D] -> f32[B, 1, D]."""
        return self.graph.node("Gather", (x, self.graph.constant("first", np.array([0], np.int64))), name, axis=1)

    def judge(self, x: str, labels: int) -> None:
        """The head over the first token: f32[B] for one label of pairs, else f32[B, labels]."""
        graph, shape, head = self.graph, self.shape, self.shape.names.head
        y = self.dense(x, (head.dense.format(self.prefix),), (shape.hidden,), shape.hidden, "head.dense", FLOAT)
        y = self.dense(
            graph.node(head.activation, (y,), "head.active"), (head.out,), (labels,), shape.hidden, "head.out", FLOAT
        )
        if self.reads == "pairs":
            axes = graph.constant("head.axes", np.array([1, 2], np.int64))
            graph.output(graph.node("Squeeze", (y, axes), "logit"), "float32", ["batch"])
        else:
            axes = graph.constant("head.axes", np.array([1], np.int64))
            graph.output(graph.node("Squeeze", (y, axes), "logits"), "float32", ["batch", labels])

    def pool(self, x: str, pooling: Pooling) -> None:
        """Sum (a mean up to its length) or first token, then unit length: f32[B, D]."""
        graph, hidden = self.graph, self.shape.hidden
        one = graph.constant("pool.one", np.array([1], np.int64))
        if pooling == "cls":
            pooled = graph.node("Gather", (x, graph.constant("pool.first", np.array(0, np.int64))), "pool.cls", axis=1)
        else:
            mask = graph.node("Unsqueeze", ("attention_mask", one), "pool.mask")
            weight = graph.node("Cast", (mask,), "pool.weight", to=1)
            pooled = graph.node("Squeeze", (graph.node("MatMul", (weight, x), "pool.sum"), one), "pool.mean")
        length = graph.node("ReduceL2", (pooled, one), "pool.length", keepdims=1)
        safe = graph.node("Max", (length, graph.constant("pool.least", np.array(1e-12, np.float32))), "pool.safe")
        graph.output(graph.node("Div", (pooled, safe), "embedding"), "float32", ["batch", hidden])

    def dense(
        self, x: str, sources: tuple[str, ...], rows: tuple[int, ...], width: int, name: str, form: Format | None = None
    ) -> str:
        tensors = tuple(self.weights.get(f"{s}.weight", n, width) for s, n in zip(sources, rows, strict=True))
        biases = tuple(self.vector(f"{s}.bias") for s in sources)
        matrix = tensors[0] if len(tensors) == 1 else Stacked(tensors)
        return linear(self.graph, x, matrix, form or self.scheme.body, name, joined(biases, rows))

    def vector(self, name: str) -> Floats | None:
        return self.weights.get(name).array() if name in self.weights else None

    def norm(self, x: str, source: str, name: str) -> str:
        return self.graph.node(
            "LayerNormalization", (x, *self.norm_weights(source)), name, axis=-1, epsilon=self.shape.epsilon
        )

    def skip_norm(self, x: str, y: str, source: str, name: str) -> str:
        return self.graph.node(
            "SkipLayerNormalization",
            (x, y, *self.norm_weights(source)),
            name,
            domain=MICROSOFT,
            epsilon=self.shape.epsilon,
        )

    def norm_weights(self, source: str) -> tuple[str, str]:
        weight = self.graph.constant(
            f"{source}.weight", self.weights.get(f"{source}.weight", self.shape.hidden).array()
        )
        return weight, self.graph.constant(
            f"{source}.bias", self.weights.get(f"{source}.bias", self.shape.hidden).array()
        )


def _buckets(distance: Any, count: int) -> Any:
    """T5's bidirectional buckets for key - query distances, as MPNet uses them (Raffel et al. 2020, section 2.1)."""
    half, far = count // 2, 128
    ahead = np.where(distance > 0, half, 0)
    steps = np.abs(distance)
    exact = half // 2
    with np.errstate(divide="ignore"):
        log = exact + np.log(steps / exact) / np.log(far / exact) * (half - exact)
    return ahead + np.where(steps < exact, steps, np.minimum(np.nan_to_num(log, neginf=0), half - 1).astype(np.int64))
