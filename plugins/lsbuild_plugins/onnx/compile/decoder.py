"""Emits a decoder: fused attention with a key-value memory that is updated in place; knows tensors, not files or gates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsbuild_plugins.onnx.compile.families import Layer, Shape
from lsbuild_plugins.onnx.compile.graph import MICROSOFT, Graph
from lsbuild_plugins.onnx.compile.linear import Scheme, Stored, embed, joined, linear, product, store
from lsbuild_plugins.onnx.compile.safetensors import Floats, Stacked, Weights

Progress = Callable[[int, int, str], None]


def emit_decoder(weights: Weights, shape: Shape, scheme: Scheme, context: int, out: Path, progress: Progress) -> None:
    """Write ``model.onnx`` and ``model.data``; inputs and outputs are those of ``serve.format.Decoder`` ("inplace").

    Args:
        context: positions in the rotary tables; the key-value memory may be shorter.
    """
    with Graph(out) as graph:
        made = _Emitter(graph, weights, shape, scheme, context)
        ids = made.inputs()
        table = store(graph, weights.get(made.prefix + "embed_tokens.weight", shape.vocab, shape.hidden), scheme.ends)
        residual = made.embedded(table, ids)
        branch = ""
        for index, layer in enumerate(shape.layers):
            progress(index, len(shape.layers) + 1, f"layer {index + 1} of {len(shape.layers)}")
            residual, branch = made.layer(index, layer, residual, branch)
        progress(len(shape.layers), len(shape.layers) + 1, "head")
        made.head(table, residual, branch)
        graph.save()


@dataclass(frozen=True, slots=True)
class _Emitter:
    graph: Graph
    weights: Weights
    shape: Shape
    scheme: Scheme
    context: int

    @property
    def prefix(self) -> str:
        return "model." if "model.embed_tokens.weight" in self.weights else ""

    def inputs(self) -> str:
        graph, shape = self.graph, self.shape
        ids = graph.input("input_ids", "int64", ["batch", "length"])
        graph.input("seqlens_k", "int32", ["batch"])
        graph.input("total_seq_len", "int32", [])
        graph.input("logits_rows", "int64", ["rows"])
        graph.output("logits", "float32", ["batch", "rows", shape.vocab])
        memory: list[int | str] = ["batch", shape.kv_heads, "memory", shape.head_dim]
        for index in range(len(shape.layers)):
            for part in ("key", "value"):
                graph.input(f"past_key_values.{index}.{part}", "float32", memory)
                graph.output(f"present.{index}.{part}", "float32", memory)
        return ids

    def embedded(self, table: Stored, ids: str) -> str:
        x = embed(self.graph, table, ids, "embedding")
        if not self.shape.family.gemma:
            return x
        root = self.graph.constant("embedding.root", np.array(math.sqrt(self.shape.hidden), np.float32))
        return self.graph.node("Mul", (x, root), "embedding.scaled")

    def layer(self, index: int, layer: Layer, residual: str, branch: str) -> tuple[str, str]:
        """One block. The pending ``branch`` (the MLP before) joins the residual inside the first norm."""
        at, source = f"layers.{index}", f"{self.prefix}layers.{index}"
        post = self.shape.family.post_norms
        normed, residual = self.joined_norm(residual, branch, f"{source}.input_layernorm", f"{at}.norm1")
        branch = self.attention(index, layer, normed)
        if post:
            branch = self.norm(branch, f"{source}.post_attention_layernorm", f"{at}.attention.norm")
        second = "pre_feedforward_layernorm" if post else "post_attention_layernorm"
        normed, residual = self.joined_norm(residual, branch, f"{source}.{second}", f"{at}.norm2")
        branch = self.mlp(index, normed)
        if post:
            branch = self.norm(branch, f"{source}.post_feedforward_layernorm", f"{at}.mlp.norm")
        return residual, branch

    def attention(self, index: int, layer: Layer, x: str) -> str:
        at, source = f"layers.{index}.attention", f"{self.prefix}layers.{index}.self_attn"
        shape, graph = self.shape, self.graph
        wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        if shape.family.fused:
            packed = self.dense(x, (f"{source}.qkv_proj",), (wide + 2 * narrow,), shape.hidden, f"{at}.qkv")
        else:
            parts = tuple(f"{source}.{part}_proj" for part in "qkv")
            packed = self.dense(x, parts, (wide, narrow, narrow), shape.hidden, f"{at}.qkv")
        inputs = self.normed_heads(packed, source, at) if shape.family.qk_norm else (packed, "", "")
        attended, _, _ = graph.nodes(
            "GroupQueryAttention",
            (*inputs, f"past_key_values.{index}.key", f"past_key_values.{index}.value", "seqlens_k", "total_seq_len",
             *self.rotary(layer)),
            (at, f"present.{index}.key", f"present.{index}.value"),
            domain=MICROSOFT, num_heads=shape.heads, kv_num_heads=shape.kv_heads, scale=shape.scale,
            do_rotary=1, rotary_interleaved=0, local_window_size=layer.window, softcap=shape.attention_softcap,
        )  # fmt: skip
        return self.dense(attended, (f"{source}.o_proj",), (shape.hidden,), wide, f"{at}.out")

    def rotary(self, layer: Layer) -> tuple[str, str]:
        """The tables of this layer's rope; layers with the same settings share one pair."""
        ropes = list(dict.fromkeys(each.rope for each in self.shape.layers))
        names = (f"rope.{ropes.index(layer.rope)}.cos", f"rope.{ropes.index(layer.rope)}.sin")
        if names[0] not in self.graph:
            for name, values in zip(names, layer.rope.table(self.context, self.shape.head_dim), strict=True):
                self.graph.constant(name, values)
        return names

    def normed_heads(self, packed: str, source: str, at: str) -> tuple[str, str, str]:
        """Queries and keys normalised per head; the attention operator's own inputs for that fail on the CPU."""
        shape, graph = self.shape, self.graph
        wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        sizes = graph.constant("attention.sizes", np.array([wide, narrow, narrow], np.int64))
        q, k, v = graph.nodes("Split", (packed, sizes), (f"{at}.q", f"{at}.k", f"{at}.v"), axis=-1)
        done = []
        for x, part, heads in ((q, "q", shape.heads), (k, "k", shape.kv_heads)):
            apart = graph.constant(f"attention.{part}.heads", np.array([0, 0, heads, shape.head_dim], np.int64))
            flat = graph.constant(f"attention.{part}.flat", np.array([0, 0, heads * shape.head_dim], np.int64))
            y = graph.node("Reshape", (x, apart), f"{x}.heads")
            y = self.norm(y, f"{source}.{part}_norm", f"{x}.normed", shape.head_dim)
            done.append(graph.node("Reshape", (y, flat), f"{x}.flat"))
        return done[0], done[1], v

    def mlp(self, index: int, x: str) -> str:
        at, source = f"layers.{index}.mlp", f"{self.prefix}layers.{index}.mlp"
        shape, graph = self.shape, self.graph
        if shape.family.fused:
            both = self.dense(x, (f"{source}.gate_up_proj",), (2 * shape.ffn,), shape.hidden, f"{at}.gate_up")
        else:
            parts = (f"{source}.gate_proj", f"{source}.up_proj")
            both = self.dense(x, parts, (shape.ffn, shape.ffn), shape.hidden, f"{at}.gate_up")
        gate, up = graph.nodes("Split", (both,), (f"{at}.gate", f"{at}.up"), axis=-1, num_outputs=2)
        if shape.activation == "silu":
            active = graph.node("QuickGelu", (gate,), f"{at}.active", domain=MICROSOFT, alpha=1.0)
        else:
            form = "tanh" if shape.activation == "gelu_tanh" else "none"
            active = graph.node("Gelu", (gate,), f"{at}.active", approximate=form)
        gated = graph.node("Mul", (active, up), f"{at}.gated")
        return self.dense(gated, (f"{source}.down_proj",), (shape.hidden,), shape.ffn, f"{at}.out")

    def head(self, table: Stored, residual: str, branch: str) -> None:
        """Logits for the wanted rows only: both halves of the last sum are gathered before the final norm."""
        graph, shape = self.graph, self.shape
        rows = [
            graph.node("Gather", (x, "logits_rows"), f"head.{part}", axis=1)
            for part, x in (("residual", residual), ("branch", branch))
        ]
        normed, _ = self.joined_norm(rows[0], rows[1], f"{self.prefix}norm", "head.norm")
        own = None if shape.tied or "lm_head.weight" not in self.weights else self.weights.get("lm_head.weight")
        stored = table if own is None else store(graph, own, self.scheme.ends)
        if not shape.final_softcap:
            product(graph, normed, stored, "logits")
            return
        cap = graph.constant("head.cap", np.array(shape.final_softcap, np.float32))
        small = graph.node("Div", (product(graph, normed, stored, "head.raw"), cap), "head.small")
        graph.node("Mul", (graph.node("Tanh", (small,), "head.tanh"), cap), "logits")

    def dense(self, x: str, sources: tuple[str, ...], rows: tuple[int, ...], width: int, name: str) -> str:
        tensors = tuple(self.weights.get(f"{s}.weight", n, width) for s, n in zip(sources, rows, strict=True))
        biases = tuple(self.vector(f"{s}.bias") for s in sources)
        matrix = tensors[0] if len(tensors) == 1 else Stacked(tensors)
        return linear(self.graph, x, matrix, self.scheme.body, name, joined(biases, rows))

    def vector(self, name: str) -> Floats | None:
        return self.weights.get(name).array() if name in self.weights else None

    def norm_weight(self, source: str, width: int = 0) -> str:
        value = self.weights.get(f"{source}.weight", width or self.shape.hidden).array()
        return self.graph.constant(source + ".weight", value + np.float32(1) if self.shape.family.gemma else value)

    def norm(self, x: str, source: str, name: str, width: int = 0) -> str:
        return self.graph.node(
            "SimplifiedLayerNormalization", (x, self.norm_weight(source, width)), name,
            epsilon=self.shape.epsilon, axis=-1, stash_type=1,
        )  # fmt: skip

    def joined_norm(self, residual: str, branch: str, source: str, name: str) -> tuple[str, str]:
        """(norm of the sum, the sum); without a branch the sum is the residual itself."""
        if not branch:
            return self.norm(residual, source, name), residual
        outputs = (name, "", "", f"{name}.sum")
        self.graph.nodes(
            "SkipSimplifiedLayerNormalization", (residual, branch, self.norm_weight(source)), outputs,
            domain=MICROSOFT, epsilon=self.shape.epsilon,
        )  # fmt: skip
        return name, outputs[3]
