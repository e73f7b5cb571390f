"""Graphs of cross-encoders: right against plain numpy, refused when their head gives no score, gated, served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from lsbuild.api import GateError, SourceError
from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.compile.rerank import gate_pairs, gate_reranker, logits
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.pairs import Pair
from lsbuild_plugins.onnx.serve.reranker import open_reranker
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service
from onnx_compile_models import ENCODERS, classifier_tensors, encoder_tensors, write_checkpoint, write_classifier
from onnx_compile_oracle import bert_logit

Build = Callable[..., tuple[Path, dict[str, Any]]]
JUDGES = ENCODERS | {"xlm-roberta": ENCODERS["roberta"] | {"model_type": "xlm-roberta"}}
PAIRS = [Pair((0, *range(5, 5 + n), 1, *range(40, 60 - n), 1), (0,) * (n + 2) + (1,) * (21 - n)) for n in (3, 9, 15)]


def _judge(folder: Path, name: str = "bert", labels: int = 1, spread: float = 0.2, **changes: Any) -> Path:
    config = JUDGES[name] | changes
    return write_classifier(folder, config, classifier_tensors(config, labels, spread=spread))


def test_float_bert_equals_plain_numpy(tmp_path: Path, build: Build) -> None:
    out, facts = build(_judge(tmp_path / "m"), type="rerank", quantize="none")
    tensors = classifier_tensors(JUDGES["bert"])
    expected = [bert_logit(tensors, JUDGES["bert"], list(pair.ids), list(pair.types)) for pair in PAIRS]
    assert np.abs(logits(out, PAIRS)[:, 0] - expected).max() < 1e-5
    assert facts["score_correlation"] == 1.0 and facts["pairs"] == 96
    untyped = [bert_logit(tensors, JUDGES["bert"], list(pair.ids), [0] * len(pair.ids)) for pair in PAIRS]
    assert np.abs(np.subtract(untyped, expected)).min() > 1e-3  # the types of the tokens matter


@pytest.mark.parametrize("quantize", ["int8", "int4", "none"])
@pytest.mark.parametrize("name", JUDGES)
def test_a_score_does_not_depend_on_its_batch(name: str, quantize: str, tmp_path: Path, build: Build) -> None:
    out, _ = build(_judge(tmp_path / "m", name), type="rerank", quantize=quantize)
    card = model_format.read(out)
    assert isinstance(card, model_format.Reranker) and card.batch_invariant
    assert ("token_type_ids" in card.inputs) == (name in ("bert", "deberta-own"))
    session = gate.open_graph(out / "model.onnx")
    ids, types = (np.array(part, np.int64) for part in zip(*PAIRS, strict=True))
    feeds = {"input_ids": ids, "attention_mask": np.ones(ids.shape, np.int32), "token_type_ids": types}
    together = session.run(None, {key: feeds[key] for key in card.inputs})[0]
    assert np.abs(together - logits(out, PAIRS)[:, 0]).max() < 1e-5


@pytest.mark.parametrize("name", JUDGES)
def test_int8_passes_its_gate(name: str, tmp_path: Path, build: Build) -> None:
    checkpoint = write_classifier(tmp_path / "m", JUDGES[name], classifier_tensors(JUDGES[name], spread=0.1), "F16")
    _, facts = build(checkpoint, type="rerank")
    assert facts["quantize"] == "int8" and facts["score_correlation"] >= 0.99 and facts["score_difference"] < 0.05
    assert facts["architecture"] == JUDGES[name]["model_type"] and facts["context_length"] in (62, 64)


def test_the_fast_format_says_that_batches_matter(tmp_path: Path, build: Build) -> None:
    out, facts = build(_judge(tmp_path / "m"), type="rerank", quantize="int8-fast")
    assert not model_format.read(out).batch_invariant  # type: ignore[union-attr]
    assert facts["score_correlation"] >= 0.95


def test_a_head_with_several_labels_is_refused_by_name(tmp_path: Path, build: Build) -> None:
    labels = {"0": "contradiction", "1": "entailment", "2": "neutral"}
    with pytest.raises(SourceError, match=r"3 labels \(contradiction, entailment, neutral\).*(?s:.)*one label"):
        build(_judge(tmp_path / "m", labels=3, id2label=labels), type="rerank")
    with pytest.raises(SourceError, match=r"has 2 labels: it sorts"):
        build(_judge(tmp_path / "n", "roberta", labels=2), type="rerank")


@pytest.mark.parametrize("name", JUDGES)
def test_an_encoder_without_a_head_is_refused(name: str, tmp_path: Path, build: Build) -> None:
    checkpoint = write_checkpoint(tmp_path / "m", JUDGES[name], encoder_tensors(JUDGES[name]))
    with pytest.raises(
        SourceError, match=r"no classification head \(classifier\S*weight is missing\)(?s:.)*type: embedding"
    ):
        build(checkpoint, type="rerank")


def test_a_head_of_another_width_is_refused(tmp_path: Path, build: Build) -> None:
    tensors = classifier_tensors(JUDGES["bert"])
    tensors["bert.pooler.dense.weight"] = tensors["bert.pooler.dense.weight"][:32]
    with pytest.raises(SourceError, match=r"bert\.pooler\.dense\.weight has shape \[32, 64\]"):
        build(write_classifier(tmp_path / "m", JUDGES["bert"], tensors), type="rerank")


def test_a_decoder_is_refused_with_its_type(tmp_path: Path, build: Build) -> None:
    checkpoint = _judge(tmp_path / "m")
    (checkpoint / "config.json").write_text(json.dumps(JUDGES["bert"] | {"model_type": "llama"}))
    with pytest.raises(SourceError, match=r"'llama' is not one(?s:.)*type: llm"):
        build(checkpoint, type="rerank")


def test_a_tokenizer_that_runs_two_texts_together_is_refused(tmp_path: Path, build: Build) -> None:
    checkpoint = write_checkpoint(tmp_path / "m", JUDGES["bert"], classifier_tensors(JUDGES["bert"]))
    with pytest.raises(SourceError, match="how a pair of texts is written"):
        build(checkpoint, type="rerank")


def test_a_vocabulary_becomes_a_tokenizer_of_pairs(tmp_path: Path, build: Build) -> None:
    checkpoint = _judge(tmp_path / "m")
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "pump", "oil", "##s"]))
    out, _ = build(checkpoint, type="rerank")
    encoded = Tokenizer.from_file(str(out / "tokenizer.json")).encode("the pump", "oil")
    assert encoded.tokens == ["[CLS]", "the", "pump", "[SEP]", "oil", "[SEP]"]
    assert encoded.type_ids == [0, 0, 0, 0, 1, 1]


def test_gate_refuses_with_the_numbers() -> None:
    draw = np.random.default_rng(0)
    reference = draw.normal(0, 4, 96).astype(np.float32)
    bent = reference + draw.normal(0, 1, 96).astype(np.float32)
    with pytest.raises(
        GateError, match=r"int8 scores are too far.*correlation 0\.9\d+ \(limit 0\.99\)(?s:.)*quantize: none"
    ):
        gate_reranker(bent, reference, "int8", "models/m")
    assert gate_reranker(bent, reference, "int4", "models/m")["pairs"] == 96


@pytest.mark.parametrize("value", [np.nan, 0.5])
def test_gate_refuses_scores_that_say_nothing(value: float) -> None:
    silent = np.full(96, value, np.float32)
    with pytest.raises(GateError, match="not finite, or the same for every pair"):
        gate_reranker(silent, silent, "none", "models/m")


def test_the_gate_reads_pairs_as_they_are_served(tmp_path: Path, build: Build) -> None:
    out, _ = build(_judge(tmp_path / "m"), type="rerank", context=32)
    pairs = gate_pairs(Tokenizer.from_file(str(out / "tokenizer.json")), 32)
    assert len(pairs) == 96 and max(len(pair.ids) for pair in pairs) <= 32
    assert all(pair.ids[0] == 0 and pair.ids.count(1) == 2 and set(pair.types) == {0, 1} for pair in pairs)


def _exported(folder: Path, source: Path, graph: Path) -> Path:
    """The compiled float graph under the names that optimum gives: a model that is taken as it is."""
    import onnx

    folder.mkdir()
    model = onnx.load(str(graph / "model.onnx"))
    (output,) = model.graph.output
    axis = onnx.helper.make_tensor("columns", onnx.TensorProto.INT64, [1], [1])
    model.graph.initializer.append(axis)
    model.graph.node.append(onnx.helper.make_node("Unsqueeze", [output.name, "columns"], ["logits"]))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["b", 1]))
    onnx.save(model, str(folder / "model.onnx"))
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    return folder


def test_a_graph_that_exists_is_taken(tmp_path: Path, build: Build) -> None:
    checkpoint = _judge(tmp_path / "m")
    emitted, _ = build(checkpoint, type="rerank", quantize="none")
    taken, facts = build(_exported(tmp_path / "given", checkpoint, emitted), type="rerank")
    card = model_format.read(taken)
    assert isinstance(card, model_format.Reranker) and (card.output, card.max_tokens) == ("logits", 64)
    assert facts["graph"] == "model.onnx" and np.array_equal(logits(taken, PAIRS), logits(emitted, PAIRS))


def test_a_graph_that_makes_vectors_is_refused(tmp_path: Path, build: Build) -> None:
    checkpoint = write_checkpoint(tmp_path / "m", JUDGES["bert"], encoder_tensors(JUDGES["bert"]))
    emitted, _ = build(checkpoint, type="embedding", quantize="none")
    (emitted / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    with pytest.raises(SourceError, match="gives embedding, and no logits"):
        build(emitted, type="rerank")


def test_the_serve_half_opens_what_was_compiled(tmp_path: Path, build: Build) -> None:
    out, _ = build(_judge(tmp_path / "m"), type="rerank")
    service = Service(api="rerank", name="m", provider="inline::onnx", entry="", path=out.name)
    found = open_reranker(service, out.parent, None).score("the a of", ["to and", "w5 w6 w7"], Context())  # type: ignore[arg-type]
    assert len(found.values) == 2 and all(0 < value < 1 for value in found.values)
    assert found.tokens == (3 + 3 + 2) + (3 + 3 + 3)
