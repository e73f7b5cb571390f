"""Graphs of classifiers: right against plain numpy, labels that mean something, windows of long texts, gated and served."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from lsbuild.api import GateError, Given, Item, SourceError, StepContext
from lsbuild.registry import attribute
from lsbuild.spec.model import Shield
from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.compile.classify import gate_classifier
from lsbuild_plugins.onnx.compile.disentangled import bucketed
from lsbuild_plugins.onnx.plugin import PLUGIN
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.classifier import open_classifier, scored
from lsbuild_plugins.onnx.serve.windows import Windows
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.safety.judged import Judged
from onnx_compile_models import (
    ENCODERS,
    as_source,
    classifier_tensors,
    encoder_tensors,
    write_checkpoint,
    write_classifier,
)
from onnx_compile_oracle import deberta_logits

Compile = Callable[..., tuple[Path, dict[str, Any], Service]]
IDS = np.random.default_rng(1).integers(3, 128, (3, 30))
DEBERTAS = ("deberta", "deberta-own", "deberta-c2p")
NAMED = {"id2label": {"0": "SAFE", "1": "INJECTION"}}


@pytest.fixture
def shield(tmp_path: Path) -> Compile:
    """``shield(folder, quantize="int8", config={...}) -> (model folder, facts, service)``: what planner and worker do."""
    made = 0

    def run(root: Path, **spec: Any) -> tuple[Path, dict[str, Any], Service]:
        nonlocal made
        made += 1
        item = Item(
            "shields", "guard", "inline::onnx", Shield(provider="inline::onnx", source=str(root), **spec), tmp_path
        )
        assert not list(PLUGIN.check(item))
        compiled = PLUGIN.compile(item, Given({"weights": as_source(root)}))
        (step,) = compiled.steps
        out = tmp_path / f"built{made}" / step.ship
        out.mkdir(parents=True)
        facts = attribute(step.run)(StepContext(out, step.options, step.sources, {}, lambda *_: None))
        return out, facts, compiled.services[0]

    return run


def checkpoint(folder: Path, name: str = "deberta", labels: int = 2, spread: float = 0.2, **changes: Any) -> Path:
    config = ENCODERS[name] | NAMED | changes
    return write_classifier(folder, config, classifier_tensors(config, labels, spread=spread))


def opened(out: Path, service: Service) -> Judged:
    return open_classifier(service, out.parents[1], None)  # type: ignore[arg-type]


def graph_logits(out: Path, ids: Any) -> Any:
    feeds = {"input_ids": ids, "attention_mask": np.ones(ids.shape, np.int32)}
    return gate.open_graph(out / "model.onnx").run(None, feeds)[0]


@pytest.mark.parametrize("name", DEBERTAS)
def test_float_deberta_equals_plain_numpy(name: str, tmp_path: Path, shield: Compile) -> None:
    out, facts, _ = shield(checkpoint(tmp_path / "m", name), quantize="none")
    tensors = classifier_tensors(ENCODERS[name], 2)
    expected = np.stack([deberta_logits(tensors, ENCODERS[name], ids) for ids in IDS.tolist()])
    assert np.abs(graph_logits(out, IDS) - expected).max() < 1e-4
    assert expected.std() > 0.1
    assert (facts["labels"], facts["logit_cosine"], facts["architecture"]) == (["SAFE", "INJECTION"], 1.0, "deberta-v2")


@pytest.mark.parametrize(("buckets", "reach"), [(16, 64), (256, 512), (32, 24)])
def test_buckets_grow_with_the_distance_and_are_odd(buckets: int, reach: int) -> None:
    distances = np.arange(-reach + 1, reach)
    found = bucketed(distances, buckets, reach)
    assert (np.diff(found) >= 0).all() and (found == -found[::-1]).all()
    near = np.abs(distances) <= buckets // 2
    assert (found[near] == distances[near]).all() and np.abs(found).max() <= buckets - 1 + (reach < buckets)


@pytest.mark.parametrize("quantize", ["int8", "none"])
@pytest.mark.parametrize("name", [*DEBERTAS, "bert", "roberta", "distilbert"])
def test_scores_do_not_depend_on_batch_mates(name: str, quantize: str, tmp_path: Path, shield: Compile) -> None:
    out, _, _ = shield(checkpoint(tmp_path / "m", name), quantize=quantize)
    together = graph_logits(out, IDS)
    for row in range(len(IDS)):
        assert np.abs(graph_logits(out, IDS[row : row + 1])[0] - together[row]).max() < 1e-4


@pytest.mark.parametrize("name", ["deberta", "bert", "roberta", "distilbert"])
def test_int8_passes_its_gate(name: str, tmp_path: Path, shield: Compile) -> None:
    _, facts, _ = shield(checkpoint(tmp_path / "m", name, spread=0.1))
    assert facts["quantize"] == "int8" and facts["logit_cosine"] >= 0.99 and facts["texts"] >= 64


def test_a_bad_graph_does_not_pass_its_gate() -> None:
    draw = np.random.default_rng(0)
    reference = draw.normal(0, 3, (90, 2)).astype(np.float32)
    with pytest.raises(GateError, match=r"int8 logits are too far.*cosine 0\.\d+ \(limit 0\.99\)(?s:.)*quantize: none"):
        gate_classifier(reference + draw.normal(0, 2, (90, 2)).astype(np.float32), reference, "int8", "m")
    with pytest.raises(GateError, match="not finite, or the same for every text"):
        gate_classifier(np.ones((90, 2), np.float32), np.ones((90, 2), np.float32), "none", "m")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conv_kernel_size": 3}, r"a convolution \(conv_kernel_size: 3\)"),
        ({"relative_attention": False}, "relative_attention: false"),
        ({"position_biased_input": True}, "position_biased_input: true"),
        ({"embedding_size": 32}, "an embedding_size that is not the hidden_size"),
        ({"pos_att_type": "c2p|p2p"}, "p2p"),
        ({"norm_rel_ebd": "batch_norm"}, "batch_norm"),
        ({"pooler_hidden_act": "tanh"}, "pooler_hidden_act: tanh"),
    ],
)
def test_variants_that_are_not_emitted_are_refused_by_name(
    changes: dict[str, Any], said: str, tmp_path: Path, shield: Compile
) -> None:
    with pytest.raises(SourceError, match=f"{said} is not supported"):
        shield(checkpoint(tmp_path / "m", **changes))


def test_the_other_deberta_is_refused_with_the_way_out(tmp_path: Path, shield: Compile) -> None:
    with pytest.raises(SourceError, match=r"'deberta' is not one(?s:.)*export: true"):
        shield(checkpoint(tmp_path / "m", model_type="deberta"))


def test_an_encoder_without_a_head_is_refused(tmp_path: Path, shield: Compile) -> None:
    with pytest.raises(SourceError, match=r"no classification head \(classifier\.weight"):
        shield(write_checkpoint(tmp_path / "m", ENCODERS["deberta"], encoder_tensors(ENCODERS["deberta"])))


def test_labels_that_say_nothing_have_to_be_given_a_meaning(tmp_path: Path, shield: Compile) -> None:
    plain = checkpoint(tmp_path / "m", id2label={"0": "LABEL_0", "1": "LABEL_1"})
    with pytest.raises(SourceError, match=r"what its labels mean: LABEL_0, LABEL_1(?s:.)*LABEL_1: \{category"):
        shield(plain)
    with pytest.raises(SourceError, match=r"no label 'LABEL_7'.*LABEL_0, LABEL_1"):
        shield(plain, config={"labels": {"LABEL_7": {"category": "x"}}})
    out, _, service = shield(plain, config={"labels": {"LABEL_1": {"category": "jailbreak", "threshold": 0.000001}}})
    verdict = opened(out, service).check("the of and", "input", Context())
    assert verdict.blocked is not None and verdict.blocked.category == "jailbreak"
    assert verdict.scores == {"jailbreak": verdict.blocked.score}


def test_scores_are_those_of_the_logits(tmp_path: Path, shield: Compile) -> None:
    out, _, service = shield(checkpoint(tmp_path / "m"), quantize="none")
    card = model_format.read(out)
    assert isinstance(card, model_format.Classifier) and card.scores == "softmax"
    ids = np.array([Tokenizer.from_file(str(out / "tokenizer.json")).encode("the pump of it").ids])
    safe, injection = graph_logits(out, ids)[0].tolist()
    verdict = opened(out, service).check("the pump of it", "retrieved", Context())
    assert verdict.scores["prompt-injection"] == pytest.approx(1 / (1 + math.exp(safe - injection)), rel=1e-5)
    assert [sum(scored(logits, card)) for logits in ([0.0, 3.0], [-900.0, 0.0])] == pytest.approx([1.0, 1.0])


def test_several_labels_at_a_time_are_scored_by_themselves(tmp_path: Path, shield: Compile) -> None:
    labels = {"0": "toxic", "1": "insult", "2": "threat"}
    given = checkpoint(tmp_path / "m", "bert", 3, id2label=labels, problem_type="multi_label_classification")
    out, facts, service = shield(given, config={"where": ["output"]})
    assert facts["labels"] == list(labels.values())
    port = opened(out, service)
    assert {each.name: each.openai for each in port.categories()}["threat"] == ("harassment/threatening",)
    assert set(port.check("the a of", "output", Context()).scores) == {"toxicity", "insult", "threat"}
    assert port.check("the a of", "input", Context()).scores == {}
    assert port.guard("input", Context()).feed("the a of") == "the a of"


def test_a_long_text_is_read_in_windows_of_which_the_highest_counts(tmp_path: Path, shield: Compile) -> None:
    out, _, service = shield(checkpoint(tmp_path / "m"), quantize="none", config={"context": 32})
    port = opened(out, service)
    words = [f"w{number % 90}" for number in range(200)]
    whole = port.check(" ".join(words), "input", Context()).scores["prompt-injection"]
    windows = Windows(Tokenizer.from_file(str(out / "tokenizer.json")), 32)
    cut = windows.of(" ".join(words))
    assert len(cut) == 9 and max(map(len, cut)) == 32 and all(each[0] == 0 and each[-1] == 1 for each in cut)
    alone = [
        port.check(" ".join(words[at : at + 30]), "input", Context()).scores["prompt-injection"]
        for at in range(0, 171, 23)
    ]
    assert whole == pytest.approx(max(alone), abs=1e-6) or whole > max(alone)
    inner = {token for window in cut for token in window[1:-1]}
    assert inner == set(
        Tokenizer.from_file(str(out / "tokenizer.json")).encode(" ".join(words), add_special_tokens=False).ids
    )


def test_a_deadline_ends_a_long_text(tmp_path: Path, shield: Compile) -> None:
    out, _, service = shield(checkpoint(tmp_path / "m"))
    with pytest.raises(ApiError, match="deadline"):
        opened(out, service).check("the of " * 400, "input", Context(deadline=0.0))


def test_a_graph_that_exists_is_taken(tmp_path: Path, shield: Compile) -> None:
    source = checkpoint(tmp_path / "m", "distilbert")
    emitted, _, _ = shield(source, quantize="none")
    given = tmp_path / "given"
    given.mkdir()
    for name in ("model.onnx", "model.data"):
        (given / name).write_bytes((emitted / name).read_bytes())
    for name in ("config.json", "tokenizer.json"):
        (given / name).write_bytes((source / name).read_bytes())
    taken, facts, service = shield(given)
    assert facts["graph"] == "model.onnx" and facts["labels"] == ["SAFE", "INJECTION"]
    assert np.array_equal(graph_logits(taken, IDS), graph_logits(emitted, IDS))
    assert opened(taken, service).check("the of", "input", Context()).scores.keys() == {"prompt-injection"}


def test_another_kind_of_folder_is_refused(tmp_path: Path, shield: Compile) -> None:
    out, _, service = shield(checkpoint(tmp_path / "m"))
    model_format.write(out, model_format.Encoder(dimensions=2, max_tokens=8))
    with pytest.raises(ApiError, match="a classifier was expected"):
        opened(out, service)
    (out / "model.json").write_text(json.dumps({"type": "nothing"}))
    with pytest.raises(ApiError, match=r"model\.json cannot be read"):
        opened(out, service)


def test_faults_of_the_spec_are_named() -> None:
    def said(**spec: Any) -> list[str]:
        item = Item("shields", "g", "inline::onnx", Shield(provider="inline::onnx", **spec), Path())
        return [f"{'.'.join(map(str, problem.path))}: {problem.message}" for problem in PLUGIN.check(item)]

    assert any("source: inline::onnx needs a source" in each for each in said())
    assert any(each.startswith("model: is for inline::llm-judge") for each in said(source="m", model="chat"))
    assert any(
        each.startswith("config.labels.X.threshold")
        for each in said(source="m", config={"labels": {"X": {"category": "a", "threshold": 2}}})
    )
    assert any(each.startswith("config.packs") for each in said(source="m", config={"packs": ["pii"]}))
    assert not said(source="m", config={"every": "whole", "where": ["output"]})
