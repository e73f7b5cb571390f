"""A decoder's memory that stays on a device: the same logits as the one on the CPU. The device here is the CPU itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsbuild_plugins.onnx.compile.fit import fit
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.kv import InplaceMemory, Memory
from lsbuild_plugins.onnx.serve.kv_device import DeviceMemory
from lsbuild_plugins.onnx.serve.session import open_session
from onnx_serve_models import service, write_decoder

TOKENS = [5, 9, 17, 33, 2, 8]


def decoder(folder: Path) -> model_format.Decoder:
    card = model_format.read(folder)
    assert isinstance(card, model_format.Decoder)
    return card


def both(folder: Path) -> tuple[Memory, Memory]:
    card = decoder(folder)
    session = open_session(service("m"), folder / "model.onnx")
    return InplaceMemory(session, card), DeviceMemory(session, card, "cpu")


def test_prompts_steps_and_forgetting_give_the_same_logits(float_folder: Path) -> None:
    ours, theirs = both(float_folder)
    for tokens, rows in ((TOKENS, slice(-1, None)), ([7], slice(None)), ([11, 12, 13], slice(None))):
        np.testing.assert_array_equal(theirs.run(tokens, rows), ours.run(tokens, rows).copy())
        assert theirs.held == ours.held
    for memory in (ours, theirs):
        memory.keep(4)
    np.testing.assert_array_equal(theirs.run([1, 2], slice(None)), ours.run([1, 2], slice(None)).copy())


@pytest.fixture(scope="module")
def half_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_decoder(tmp_path_factory.mktemp("half") / "model")
    facts = fit(folder / "model.onnx", ["cuda", "cpu"], {})
    assert facts["runs_on"] == ["cuda", "cpu"]
    return folder


def test_a_memory_of_float16_says_nearly_the_same(half_folder: Path, float_folder: Path) -> None:
    _, half = both(half_folder)
    whole, _ = both(float_folder)
    one, two = half.run(TOKENS, slice(None)), whole.run(TOKENS, slice(None)).copy()
    assert np.abs(one - two).max() < 0.01 * np.abs(two).max()
    one, two = half.run([3], slice(None)), whole.run([3], slice(None))
    assert np.abs(one - two).max() < 0.01 * np.abs(two).max()
