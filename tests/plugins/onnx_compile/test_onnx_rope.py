"""Rotary tables: both spellings of their settings give the same, and scalings do what they say."""

from __future__ import annotations

import numpy as np
import pytest

from lsbuild.api import SourceError
from lsbuild_plugins.onnx.compile.rope import Llama3, Rope, read_rope
from onnx_compile_models import LLAMA3


def test_both_spellings_mean_the_same() -> None:
    old = {"rope_theta": 5000.0, "rope_scaling": LLAMA3}
    new = {"rope_parameters": LLAMA3 | {"rope_theta": 5000.0}}
    wanted = Rope(5000.0, llama3=Llama3(8.0, 1.0, 4.0, 32))
    assert read_rope(old, "full_attention", "m") == read_rope(new, "full_attention", "m") == wanted


def test_settings_by_layer_type() -> None:
    old = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"type": "linear", "factor": 8.0}}
    nested = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
              "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}  # fmt: skip
    for config in (old, {"rope_parameters": nested}):
        assert read_rope(config, "full_attention", "m") == Rope(1e6, 8.0)
        assert read_rope(config, "sliding_attention", "m") == Rope(1e4)


def test_defaults() -> None:
    assert read_rope({}, "full_attention", "m") == Rope(10_000.0)


@pytest.mark.parametrize("kind", ["yarn", "longrope", "dynamic"])
def test_other_scalings_are_refused_by_name(kind: str) -> None:
    with pytest.raises(SourceError, match=kind):
        read_rope({"rope_scaling": {"type": kind, "factor": 2.0}}, "full_attention", "m")


def test_tables() -> None:
    cos, sin = Rope(100.0).table(4, 8)
    assert cos.shape == sin.shape == (4, 4) and cos.dtype == np.float32
    assert np.allclose(cos[3], np.cos(3 * 100.0 ** (-np.arange(4) / 4))) and np.allclose(cos**2 + sin**2, 1)


def test_llama3_keeps_short_waves_and_stretches_long_ones() -> None:
    plain, scaled = (Rope(10_000.0, llama3=extra).frequencies(64) for extra in (None, Llama3(8.0, 1.0, 4.0, 8192)))
    assert scaled[0] == plain[0] and np.isclose(scaled[-1], plain[-1] / 8)
    assert (np.diff(scaled) < 0).all()
