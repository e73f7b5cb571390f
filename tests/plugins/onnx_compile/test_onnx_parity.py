"""Float graphs against transformers, in a process of a Python that has torch: every family, both spellings of its config."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsbuild.api import Given, Item, StepContext
from lsbuild.registry import attribute
from lsbuild.spec.model import Shield
from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.plugin import PLUGIN
from lsbuild_plugins.onnx.serve import format as model_format
from onnx_compile_models import (
    DECODERS,
    ENCODERS,
    as_source,
    classifier_tensors,
    decoder_tensors,
    encoder_tensors,
    write_checkpoint,
    write_classifier,
    write_tokenizer,
)

Build = Callable[..., tuple[Path, dict[str, Any]]]
HERE = Path(__file__).parent
LENGTH = 40
SORTERS = {f"sorter-{name}": {**config, "num_labels": 3} for name, config in ENCODERS.items() if name != "mpnet"}
JUDGES = {f"judge-{name}": {**config, "num_labels": 1} for name, config in ENCODERS.items()}


def _python() -> str:
    """The interpreter with torch: LSBUILD_PARITY_PYTHON, the one that ``make parity`` makes, or this one."""
    made = HERE.parents[2] / ".venv-parity" / "bin" / "python"
    named = os.environ.get("LSBUILD_PARITY_PYTHON") or (str(made) if made.exists() else "")
    if not named and importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        named = sys.executable
    if not named:
        pytest.skip("no Python with torch and transformers: run `make parity` or set LSBUILD_PARITY_PYTHON")
    return named


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tiny models with the answers that transformers gives."""
    python, root = _python(), tmp_path_factory.mktemp("models")
    for name, config in (DECODERS | ENCODERS).items():
        tensors = decoder_tensors(config) if name in DECODERS else encoder_tensors(config)
        folder = write_checkpoint(root / name, config, tensors)
        ids = np.random.default_rng(1).integers(3, 128, (2, LENGTH))
        np.save(folder / "ids.npy", ids)
    for name, config in JUDGES.items():
        folder = write_classifier(root / name, config, classifier_tensors(config))
        np.save(folder / "ids.npy", np.random.default_rng(1).integers(3, 128, (8, LENGTH)))
        np.save(folder / "types.npy", np.broadcast_to(np.arange(LENGTH) >= 12, (8, LENGTH)).astype(np.int64))
    for name, config in SORTERS.items():
        folder = write_classifier(root / name, config, classifier_tensors(config, 3))
        np.save(folder / "ids.npy", np.random.default_rng(1).integers(3, 128, (4, LENGTH)))
        np.save(folder / "types.npy", np.zeros((4, LENGTH), np.int64))
    done = subprocess.run(
        [python, str(HERE / "torch_reference.py"), str(root)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in DECODERS | ENCODERS:
        write_tokenizer(root / name / "saved")
    for name in JUDGES | SORTERS:
        (root / name / "saved" / "tokenizer.json").write_bytes((root / name / "tokenizer.json").read_bytes())
    return root


@pytest.mark.parametrize("spelling", ["", "saved"])
@pytest.mark.parametrize("name", DECODERS)
def test_decoder_matches_transformers(name: str, spelling: str, models: Path, build: Build) -> None:
    out, _ = build(models / name / spelling, type="llm", quantize="none")
    card = model_format.read(out)
    ids = np.load(models / name / "ids.npy")
    found = gate.logits(gate.open_graph(out / "model.onnx"), ids, card.layers, (card.kv_heads, card.head_dim))
    expected = np.load(models / name / "expected.npy")
    assert np.abs(found - expected).max() < 1e-3
    assert (found.argmax(-1) == expected.argmax(-1)).all()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("spelling", ["", "saved"])
@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_matches_transformers(name: str, spelling: str, pooling: str, models: Path, build: Build) -> None:
    out, _ = build(models / name / spelling, type="embedding", quantize="none", config={"pooling": pooling})
    ids = np.load(models / name / "ids.npy")
    session = gate.open_graph(out / "model.onnx")
    found = session.run(None, {"input_ids": ids, "attention_mask": np.ones(ids.shape, np.int32)})[0]
    expected = np.load(models / name / "expected.npy")[["mean", "cls"].index(pooling)]
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("spelling", ["", "saved"])
@pytest.mark.parametrize("name", JUDGES)
def test_reranker_matches_transformers(name: str, spelling: str, models: Path, build: Build) -> None:
    out, _ = build(models / name / spelling, type="rerank", quantize="none")
    ids, types = (np.load(models / name / file) for file in ("ids.npy", "types.npy"))
    session = gate.open_graph(out / "model.onnx")
    feeds = {"input_ids": ids, "attention_mask": np.ones(ids.shape, np.int32), "token_type_ids": types}
    found = session.run(None, {port.name: feeds[port.name] for port in session.get_inputs()})[0]
    expected = np.load(models / name / "expected.npy")[:, 0]
    assert found.shape == expected.shape and expected.std() > 0.1
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("spelling", ["", "saved"])
@pytest.mark.parametrize("name", SORTERS)
def test_classifier_matches_transformers(name: str, spelling: str, models: Path, tmp_path: Path) -> None:
    labels = {f"LABEL_{place}": {"category": f"c{place}"} for place in range(3)}
    spec = Shield(provider="inline::onnx", source="m", quantize="none", config={"labels": labels})
    item = Item("shields", "m", "inline::onnx", spec, tmp_path)
    step = PLUGIN.compile(item, Given({"weights": as_source(models / name / spelling)})).steps[0]
    attribute(step.run)(StepContext(tmp_path, step.options, step.sources, {}, lambda *_: None))
    ids = np.load(models / name / "ids.npy")
    feeds = {"input_ids": ids, "attention_mask": np.ones(ids.shape, np.int32)}
    found = gate.open_graph(tmp_path / "model.onnx").run(None, feeds)[0]
    expected = np.load(models / name / "expected.npy")
    assert found.shape == expected.shape == (4, 3) and expected.std() > 0.1
    assert np.abs(found - expected).max() < 1e-4
