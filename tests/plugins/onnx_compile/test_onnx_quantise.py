"""Block quantisation: error bounds, layout, and that onnxruntime reads exactly what ``dequantise`` says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.compile.graph import Graph
from lsbuild_plugins.onnx.compile.linear import FLOAT, SMALL, Format, embed, linear, scheme_for, store
from lsbuild_plugins.onnx.compile.quantise import block_for, dequantise, per_column, quantise
from lsbuild_plugins.onnx.compile.safetensors import Floats


class Held:
    """A matrix in memory."""

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.shape: tuple[int, ...] = values.shape

    def rows(self, start: int, stop: int) -> Floats:
        return self.values[start:stop]


FLOATS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


@given(hnp.arrays(np.float32, (3, 64), elements=FLOATS), st.sampled_from([4, 8]), st.sampled_from([16, 32, 64]))
@settings(max_examples=150, deadline=None)
def test_error_is_at_most_one_step(values: Floats, bits: int, block: int) -> None:
    codes, scales = quantise(values, bits, block)
    assert codes.dtype == np.uint8 and codes.shape == (3, 64 * bits // 8) and scales.shape == (3, 64 // block)
    error = np.abs(dequantise(codes, scales, bits, block).astype(np.float64) - values).reshape(3, -1, block).max(-1)
    # A step at the far end that is not used; half of one elsewhere. Blocks below the smallest normal step become zero.
    assert (error <= np.abs(scales) * 1.001 + 2e-36).all()


@given(hnp.arrays(np.float32, (2, 32), elements=st.floats(-8, 8, width=32, allow_subnormal=False)))
@settings(max_examples=80, deadline=None)
def test_largest_element_of_a_block_is_exact(values: Floats) -> None:
    codes, scales = quantise(values, 8, 32)
    found = dequantise(codes, scales, 8, 32)
    for row in range(2):
        # Of 1 and -1 one has the end of the range that is used.
        largest = np.abs(values[row]) == np.abs(values[row]).max()
        assert np.isclose(found[row, largest], values[row, largest], rtol=1e-6, atol=1e-35).any()


def test_low_nibble_comes_first() -> None:
    codes, scales = quantise(np.array([[-8.0, 7.0] + [0.0] * 14], np.float32), 4, 16)
    assert scales[0, 0] == 1.0
    assert codes[0, 0] == 0 | (15 << 4) and codes[0, 1] == 0x88


def test_zeros_stay_zeros() -> None:
    codes, scales = quantise(np.zeros((1, 32), np.float32), 4, 32)
    assert not dequantise(codes, scales, 4, 32).any()


@pytest.mark.parametrize(
    ("width", "wanted", "block"), [(576, 64, 64), (96, 64, 32), (48, 64, 16), (40, 64, 0), (64, 32, 32)]
)
def test_block_divides_the_width(width: int, wanted: int, block: int) -> None:
    assert block_for(width, wanted) == block


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [16, 32, 64])
def test_runtime_reads_an_embedding_as_we_do(bits: int, block: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 192)).astype(np.float32)
    with Graph(tmp_path) as graph:
        ids = graph.input("ids", "int64", ["batch", "length"])
        graph.output(
            embed(graph, store(graph, Held(values), Format(bits, block)), ids, "rows"), "float32", [1, 50, 192]
        )
        path = graph.save()
    found = gate.open_graph(path).run(None, {"ids": np.arange(50)[None]})[0][0]
    assert (found == dequantise(*quantise(values, bits, block), bits, block)).all()


@pytest.mark.parametrize("form", [Format(32), Format(8, 64), Format(8, 32), Format(4, 32), Format(8, 0, dynamic=True)])
@pytest.mark.parametrize("width", [96, 40])
def test_a_linear_layer_computes_the_product(form: Format, width: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    weight, bias = draw.normal(size=(24, width)).astype(np.float32), draw.normal(size=24).astype(np.float32)
    x = draw.normal(size=(2, 5, width)).astype(np.float32)
    with Graph(tmp_path) as graph:
        name = graph.input("x", "float32", ["batch", "length", width])
        graph.output(linear(graph, name, Held(weight), form, "y", bias), "float32", ["batch", "length", 24])
        path = graph.save()
    found = gate.open_graph(path).run(None, {"x": x})[0]
    wanted = x @ weight.T + bias
    error = np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std()
    assert error < (0.15 if form.of(width).bits == 4 else 0.02 if form.of(width).bits == 8 else 1e-6)


def test_per_column_is_symmetric_and_transposed() -> None:
    values = np.array([[1.0, -2.0], [0.5, 0.25]], np.float32)
    codes, scales = per_column(values)
    assert codes.tolist() == [[64, 127], [-127, 64]] and np.allclose(scales, [2 / 127, 0.5 / 127])


def test_small_models_keep_more() -> None:
    small, large = scheme_for(SMALL - 1, "int8"), scheme_for(SMALL, "int8")
    assert (small.body.block, large.body.block) == (16, 64)
    assert scheme_for(1, "none").body == FLOAT
