"""Turns weight matrices into nodes (linear layers, embeddings, heads) in float32, 8 or 4 bits, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lsbuild_plugins.onnx.compile.graph import MICROSOFT, Graph, Location
from lsbuild_plugins.onnx.compile.quantise import Bytes, block_for, chunks, per_column, quantise
from lsbuild_plugins.onnx.compile.safetensors import Floats, Matrix

ACCURACY = 4
"""MatMulNBits accuracy_level: activations as int8 per block and row. Level 1 (float) decodes 2 to 10 times slower."""


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of matrix is stored. ``bits`` 32 is float32; ``dynamic`` is int8 per output and per-tensor activations."""

    bits: Literal[4, 8, 32]
    block: int = 64
    dynamic: bool = False

    def of(self, width: int) -> Format:
        """This format with a block that divides ``width``; float32 when none does."""
        block = block_for(width, self.block)
        return replace(self, block=block) if block or self.dynamic or self.bits == 32 else FLOAT


FLOAT = Format(32)


@dataclass(frozen=True, slots=True)
class Scheme:
    """The formats of one model: its layers, and its embedding (which a tied head shares)."""

    body: Format
    ends: Format


SCHEMES = {
    ("llm", "int4"): Scheme(Format(4, 64), Format(8, 64)),
    ("llm", "int8"): Scheme(Format(8, 64), Format(8, 64)),
    ("llm", "none"): Scheme(FLOAT, FLOAT),
    ("small llm", "int4"): Scheme(Format(4, 16), Format(8, 16)),
    ("small llm", "int8"): Scheme(Format(8, 16), Format(8, 16)),
    ("small llm", "none"): Scheme(FLOAT, FLOAT),
    ("embedding", "int8"): Scheme(Format(8, 32), Format(8, 128)),
    ("embedding", "int8-fast"): Scheme(Format(8, 0, dynamic=True), Format(8, 128)),
    ("embedding", "int4"): Scheme(Format(4, 32), Format(8, 128)),
    ("embedding", "none"): Scheme(FLOAT, FLOAT),
}
"""(kind of model, ``quantize`` of the spec) -> formats. Block sizes were measured: see the design's table of libraries.

The words of an encoder lie in blocks of 128: MiniLM's mean cosine to float32 is 0.99967 as with blocks of 32, for 1.1 MB less.
"""
SMALL = 32_000_000
"""Decoders with fewer parameters are small: quality counts and bytes do not, so their blocks are of 16.

A trained model of 4M parameters: KL to float32 0.0049 instead of 0.0108 nats at int8, 0.34 instead of 0.45 at int4, for
0.8 MB more; it decodes at about 700 tokens/s on one core either way.
"""


def scheme_for(parameters: int, quantize: str) -> Scheme:
    """The formats of a decoder with that many parameters."""
    return SCHEMES["small llm" if parameters < SMALL else "llm", quantize]


@dataclass(frozen=True, slots=True)
class Stored:
    """A matrix in ``model.data``: ``codes`` are its values or codes, ``scales`` belong to quantised ones."""

    rows: int
    width: int
    format: Format
    codes: Location
    scales: Location | None = None


def store(graph: Graph, matrix: Matrix, wanted: Format) -> Stored:
    """Write a matrix to ``model.data`` in the given format (float32 when no block divides its width)."""
    rows, width = matrix.shape
    form = wanted.of(width)
    if form.bits == 32:
        return Stored(rows, width, form, graph.append(chunks(matrix)))
    scales: list[Floats] = []
    codes = graph.append(_coded(matrix, form, scales))
    return Stored(rows, width, form, codes, graph.append(scales))


def _coded(matrix: Matrix, form: Format, scales: list[Floats]) -> Iterator[Bytes]:
    for chunk in chunks(matrix):
        codes, found = quantise(chunk, form.bits, form.block)
        scales.append(found)
        yield codes


def embed(graph: Graph, stored: Stored, ids: str, name: str) -> str:
    """Rows of an embedding: i64[B, S] -> f32[B, S, width]."""
    weight = f"{name}.weight"
    if stored.scales is None:
        graph.initializer(weight, "float32", (stored.rows, stored.width), stored.codes)
        return graph.node("Gather", (weight, ids), name, axis=0)
    form = stored.format
    graph.initializer(weight, "uint8", (stored.rows, stored.width * form.bits // 8), stored.codes)
    graph.initializer(f"{name}.scales", "float32", (stored.rows, stored.width // form.block), stored.scales)
    return graph.node(
        "GatherBlockQuantized", (weight, ids, f"{name}.scales"), name, domain=MICROSOFT,
        bits=form.bits, block_size=form.block, gather_axis=0, quantize_axis=1,
    )  # fmt: skip


def linear(graph: Graph, x: str, matrix: Matrix, wanted: Format, name: str, bias: Floats | None = None) -> str:
    """``x @ matrix.T + bias``: f32[..., K] -> f32[..., N]; the matrix is [N, K], as checkpoints store it."""
    if wanted.dynamic:
        return _dynamic(graph, x, matrix, name, bias)
    return product(graph, x, store(graph, matrix, wanted), name, bias)


def product(graph: Graph, x: str, stored: Stored, name: str, bias: Floats | None = None) -> str:
    """The same for a matrix that is stored already (a head that shares the embedding's bytes)."""
    weight = f"{name}.weight"
    added = graph.constant(f"{name}.bias", bias) if bias is not None else ""
    if stored.scales is None:
        graph.initializer(weight, "float32", (stored.rows, stored.width), stored.codes)
        if not added:
            return graph.node("FusedMatMul", (x, weight), name, domain=MICROSOFT, transB=1)
        plain = graph.node("FusedMatMul", (x, weight), f"{name}.product", domain=MICROSOFT, transB=1)
        return graph.node("Add", (plain, added), name)
    form, blocks = stored.format, stored.width // stored.format.block
    graph.initializer(weight, "uint8", (stored.rows, blocks, form.block * form.bits // 8), stored.codes)
    graph.initializer(f"{name}.scales", "float32", (stored.rows, blocks), stored.scales)
    inputs = (x, weight, f"{name}.scales") + (("", "", added) if added else ())
    return graph.node(
        "MatMulNBits", inputs, name, domain=MICROSOFT,
        K=stored.width, N=stored.rows, bits=form.bits, block_size=form.block, accuracy_level=ACCURACY,
    )  # fmt: skip


def _dynamic(graph: Graph, x: str, matrix: Matrix, name: str, bias: Floats | None) -> str:
    codes, scales = per_column(matrix.rows(0, matrix.shape[0]))
    inputs = [x, graph.constant(f"{name}.weight", codes), graph.constant(f"{name}.scales", scales), ""]
    inputs.append(graph.constant(f"{name}.bias", bias) if bias is not None else "")
    return graph.node("DynamicQuantizeMatMul", inputs, name, domain=MICROSOFT)


def joined(parts: tuple[Floats | None, ...], rows: tuple[int, ...]) -> Floats | None:
    """Biases of stacked matrices as one vector; a part without one counts as zeros, none at all as None."""
    if all(part is None for part in parts):
        return None
    filled = [np.zeros(n, np.float32) if part is None else part for part, n in zip(parts, rows, strict=True)]
    return np.concatenate(filled).astype(np.float32)
