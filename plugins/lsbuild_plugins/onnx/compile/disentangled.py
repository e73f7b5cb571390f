"""DeBERTa's attention: reads its settings, and emits what it adds to the products of queries and keys; knows no files.

He et al., "DeBERTa: Decoding-enhanced BERT with Disentangled Attention" (2021), in the form of version 2 and 3: content to
position (c2p) and position to content (p2c), over relative embeddings whose far distances share logarithmic buckets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsbuild.api import SourceError
from lsbuild_plugins.onnx.compile.graph import MICROSOFT, Graph
from lsbuild_plugins.onnx.compile.linear import Format, embed, store
from lsbuild_plugins.onnx.compile.safetensors import Floats, Weights

_KINDS = ("c2p", "p2c")


@dataclass(frozen=True, slots=True)
class Disentangled:
    """``span`` distances in each direction have an embedding; those beyond ``reach`` share the last one.

    ``buckets`` 0: every distance has its own. ``kinds`` are the terms that are added to the content's own. ``shared``:
    positions go through the projections of the content.
    """

    span: int
    reach: int
    buckets: int
    kinds: tuple[str, ...]
    shared: bool
    normed: bool

    def index(self, distances: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of the relative embeddings for each distance from query to key (query - key)."""
        near = bucketed(distances, self.buckets, self.reach) if self.buckets else distances
        clipped: NDArray[np.int64] = np.clip(near + self.span, 0, 2 * self.span - 1)
        return clipped


def read_disentangled(config: Mapping[str, Any], where: str) -> Disentangled:
    """The settings in config.json; SourceError names a variant that is not emitted."""

    def refuse(what: str) -> SourceError:
        return SourceError(
            f"config.json: {what} is not supported", where=where,
            hint="Supported is DeBERTa v2 and v3 with relative attention, without a convolution.",
        )  # fmt: skip

    for key, wanted in (("relative_attention", True), ("position_biased_input", False)):
        if bool(config.get(key, not wanted)) is not wanted:
            raise refuse(f"{key}: {str(not wanted).lower()}")
    if int(config.get("conv_kernel_size") or 0) > 0:
        raise refuse(f"a convolution (conv_kernel_size: {config['conv_kernel_size']})")
    if config.get("embedding_size", config.get("hidden_size")) != config.get("hidden_size"):
        raise refuse("an embedding_size that is not the hidden_size")
    if config.get("pooler_hidden_act", "gelu") != "gelu":
        raise refuse(f"pooler_hidden_act: {config['pooler_hidden_act']}")
    kinds, norms = _listed(config.get("pos_att_type")), _listed(config.get("norm_rel_ebd"))
    if unknown := [*(set(kinds) - set(_KINDS)), *(set(norms) - {"layer_norm", "none"})]:
        raise refuse(", ".join(sorted(unknown)))
    reach = int(config.get("max_relative_positions") or 0)
    reach = reach if reach > 0 else int(config.get("max_position_embeddings") or 512)
    buckets = max(0, int(config.get("position_buckets") or 0))
    return Disentangled(
        span=buckets or reach,
        reach=reach,
        buckets=buckets,
        kinds=tuple(kind for kind in _KINDS if kind in kinds),
        shared=bool(config.get("share_att_key", False)),
        normed="layer_norm" in norms,
    )


def _listed(value: Any) -> list[str]:
    """A list, or texts with ``|`` between them."""
    parts = value.split("|") if isinstance(value, str) else value or []
    return [str(part).strip().lower() for part in parts]


def bucketed(distances: NDArray[np.int64], buckets: int, reach: int) -> NDArray[np.int64]:
    """Distances as buckets: the nearer half each its own, the farther ones in logarithmic steps up to ``reach``."""
    half = buckets // 2
    steps = np.abs(distances)
    far = np.maximum(steps, half).astype(np.float32) / np.float32(half)
    log = np.ceil(np.log(far) / np.log(np.float32((reach - 1) / half)) * np.float32(half - 1)) + half
    found: NDArray[np.int64] = np.where(steps <= half, distances, np.sign(distances) * log.astype(np.int64))
    return found


@dataclass(frozen=True, slots=True)
class Positions:
    """Emits the terms of one model. ``tokens`` is the longest input; the projected positions are stored as ``form``."""

    graph: Graph
    weights: Weights
    settings: Disentangled
    heads: int
    tokens: int
    epsilon: float
    prefix: str
    form: Format

    def bias(self, source: str, q: str, k: str, width: int, name: str) -> str:
        """f32[B, heads, S, S]: what a layer adds to its products; ``q`` and ``k`` are f32[B, S, width].

        What the projections make of the relative embeddings does not depend on a text: it is computed here.
        """
        graph, settings = self.graph, self.settings
        scale = (width // self.heads * (1 + len(settings.kinds))) ** -0.5
        terms = []
        for kind in settings.kinds:
            content, projection = (q, "key_proj") if kind == "c2p" else (k, "query_proj")
            own = f"{source}attention.self.{'' if settings.shared else 'pos_'}{projection}"
            projected = self._projected(own, width, f"{name}.{kind}.positions")
            split = self._split(content, width, f"{name}.{kind}.heads")
            products = graph.node(
                "FusedMatMul", (split, projected), f"{name}.{kind}.products", domain=MICROSOFT, alpha=scale
            )
            picked = graph.node("GatherElements", (products, self._index(kind, q)), f"{name}.{kind}", axis=3)
            if kind == "p2c":  # a row of it belongs to a key
                picked = graph.node("Transpose", (picked,), f"{name}.{kind}.turned", perm=[0, 1, 3, 2])
            terms.append(picked)
        return terms[0] if len(terms) == 1 else graph.node("Add", terms, f"{name}.bias")

    def _projected(self, source: str, width: int, name: str) -> str:
        """f32[heads, head, R]: the positions that distances of this input lead to, of each head."""
        graph = self.graph
        weight = self.weights.get(f"{source}.weight", width, width).array()
        moved = self._relative(width) @ weight.T + self.weights.get(f"{source}.bias", width).array()
        stored = store(graph, _Held(np.ascontiguousarray(moved, np.float32)), self.form)
        flat = embed(graph, stored, self._rows(), name)
        shape = graph.constant("relative.by_head", np.array([-1, self.heads, width // self.heads], np.int64))
        parts = graph.node("Reshape", (flat, shape), f"{name}.parts")
        return graph.node("Transpose", (parts,), f"{name}.by_head", perm=[1, 2, 0])

    def _rows(self) -> str:
        """i64[R]: the rows of the relative embeddings from the farthest distance behind to the farthest ahead.

        Short texts need few of them.
        """
        graph = self.graph
        if "relative.first.table" in graph:
            return "relative.rows"
        farthest = np.arange(-1, self.tokens)  # of inputs of 0, 1, ... tokens
        graph.constant("relative.first.table", self.settings.index(-farthest))
        graph.constant("relative.after.table", self.settings.index(farthest) + 1)
        ends = []
        for end in ("first", "after"):
            graph.node("Gather", (f"relative.{end}.table", "length.now"), f"relative.{end}", axis=0)
            ends.append(graph.node("Squeeze", (f"relative.{end}",), f"relative.{end}.scalar"))
        return graph.node("Range", (*ends, graph.constant("relative.step", np.array(1))), "relative.rows")

    def _relative(self, width: int) -> Floats:
        """f32[2 * span, width]."""
        at, rows = f"{self.prefix}encoder.", 2 * self.settings.span
        found = self.weights.get(f"{at}rel_embeddings.weight", rows, width).array()
        if not self.settings.normed:
            return found
        centred = found - found.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(self.epsilon))
        names = (f"{at}LayerNorm.weight", f"{at}LayerNorm.bias")
        gain, shift = (self.weights.get(name, width).array() for name in names)
        normed: Floats = unit * gain + shift
        return normed

    def _split(self, x: str, width: int, name: str) -> str:
        """f32[B, S, width] -> f32[B, heads, S, head]."""
        shape = self.graph.constant("relative.split", np.array([0, 0, self.heads, width // self.heads], np.int64))
        parts = self.graph.node("Reshape", (x, shape), f"{name}.parts")
        return self.graph.node("Transpose", (parts,), name, perm=[0, 2, 1, 3])

    def _index(self, kind: str, like: str) -> str:
        """i64[B, heads, S, S]: for c2p the column of the products for (query, key), for p2c for (key, query).

        ``like`` is f32[B, S, ...].
        """
        graph, name, reach = self.graph, f"relative.{kind}.index", self.tokens - 1
        if f"relative.{kind}.table" in graph:
            return name
        distances = np.arange(-reach, reach + 1)
        if kind == "c2p":  # the table is read at column - row: key - query here, query - key there
            distances = -distances
        graph.constant(f"relative.{kind}.table", self.settings.index(distances))
        picked = graph.node(
            "Gather", (f"relative.{kind}.table", self._distances(reach)), f"relative.{kind}.picked", axis=0
        )
        self._rows()
        nearest = graph.node("Sub", (picked, "relative.first"), f"relative.{kind}.column")
        return graph.node("Expand", (nearest, self._shape(like)), name)

    def _distances(self, reach: int) -> str:
        """i64[S, S]: column - row + reach."""
        graph = self.graph
        if "relative.reach" in graph:
            return "relative.distances"
        graph.constant("relative.reach", np.array(reach, np.int64))
        ends = (graph.constant("relative.none", np.array(0, np.int64)), graph.constant("relative.step", np.array(1)))
        count = graph.node("Squeeze", ("length.now",), "relative.length")
        steps = graph.node("Range", (ends[0], count, ends[1]), "relative.range")
        rows = graph.node("Unsqueeze", (steps, graph.constant("relative.last", np.array([1]))), "relative.column")
        apart = graph.node("Sub", (steps, rows), "relative.apart")
        return graph.node("Add", (apart, "relative.reach"), "relative.distances")

    def _shape(self, like: str) -> str:
        """i64[4]: B, heads, S, S."""
        graph = self.graph
        if "relative.heads" in graph:
            return "relative.shape"
        heads = graph.constant("relative.heads", np.array([self.heads], np.int64))
        batch = graph.node("Shape", (like,), "relative.batch", start=0, end=1)
        return graph.node("Concat", (batch, heads, "length.now", "length.now"), "relative.shape", axis=0)


@dataclass(frozen=True, slots=True)
class _Held:
    """A matrix in memory, as ``linear.store`` reads it."""

    values: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def rows(self, start: int, stop: int) -> Floats:
        return self.values[start:stop]
