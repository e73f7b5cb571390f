"""The plugin's pure half, and the errors that a step gives to people."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Given, Item, Source, SourceError
from lsbuild.registry import attribute
from lsbuild.spec.model import Model
from lsbuild_plugins.onnx.compile import export
from lsbuild_plugins.onnx.plugin import PLUGIN
from onnx_compile_models import DECODERS, decoder_tensors, write_checkpoint

Build = Callable[..., tuple[Path, dict[str, Any]]]


def _item(**spec: Any) -> Item:
    return Item("models", "chat", "inline::onnx", Model(**{"type": "llm", "source": "./m"} | spec), Path())


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({"source": None}, ("source",), "needs a source"),
        ({"quantize": "int8-fast"}, ("quantize",), "for encoders"),
        ({"source": "./m.onnx", "quantize": "int4"}, ("quantize",), "taken as it is"),
        ({"dimensions": 3}, ("dimensions",), "remote"),
        ({"config": {"thread": 2}}, ("config", "thread"), "not permitted"),
        (
            {"config": {"sampling": {"temperature": 3}}},
            ("config", "sampling", "temperature"),
            "less than or equal to 2",
        ),
        ({"config": {"pooling": "max"}}, ("config", "pooling"), "mean"),
        ({"config": {"pooling": "cls"}}, ("config", "pooling"), "type embedding"),
        ({"type": "embedding", "config": {"queue": 3}}, ("config", "queue"), "type llm"),
    ],
)
def test_faults_of_the_spec(spec: dict[str, Any], path: tuple[str, ...], message: str) -> None:
    problems = list(PLUGIN.check(_item(**spec)))
    assert [problem.path for problem in problems] == [path]
    assert message in problems[0].message


@pytest.mark.parametrize(
    "spec", [{}, {"type": "embedding", "quantize": "int8-fast"}, {"source": "./m.onnx", "quantize": "none"}]
)
def test_sound_specs_have_no_faults(spec: dict[str, Any]) -> None:
    assert not list(PLUGIN.check(_item(**spec)))


def test_a_language_model_is_one_step_and_one_service() -> None:
    item = _item(context=2048, config={"threads": "${env.N:=2}", "queue": 4, "sampling": {"temperature": 0}})
    given = Given({"weights": Source("./m", ())})
    compiled = PLUGIN.compile(item, given)
    (step,), (service,) = compiled.steps, compiled.services
    assert PLUGIN.sources(item) == {"weights": "./m"}
    assert service.entry == "lsbuild_plugins.onnx.serve.engine:open_engine" and service.api == "inference"
    assert service.path == step.ship == "models/chat" and service.metadata == {
        "model_type": "llm",
        "sampling": {"temperature": 0},
    }
    assert service.config == {"threads": "${env.N:=2}", "queue": 4}
    assert step.options == {"quantize": "int4", "explicit": False, "context": 2048, "export": False}
    assert any(wheel.startswith("minijinja") for wheel in compiled.wheels)
    assert compiled == PLUGIN.compile(item, given)
    json.dumps(step.options)


def test_an_embedding_model_needs_no_template_engine() -> None:
    compiled = PLUGIN.compile(_item(type="embedding"), Given({"weights": Source("./m", ())}))
    assert compiled.services[0].entry == "lsbuild_plugins.onnx.serve.encoder:open_encoder"
    assert compiled.services[0].api == "embeddings" and compiled.steps[0].options["quantize"] == "int8"
    assert not any("minijinja" in wheel for wheel in compiled.wheels)


def test_serving_options_do_not_change_the_step() -> None:
    given = Given({"weights": Source("./m", ())})
    plain, threads = (PLUGIN.compile(_item(config=config), given) for config in ({}, {"threads": 1}))
    assert plain.steps == threads.steps and plain.services != threads.services


def test_entries_exist() -> None:
    for kind in ("llm", "embedding", "rerank"):
        compiled = PLUGIN.compile(_item(type=kind), Given({"weights": Source("./m", ())}))
        assert callable(attribute(compiled.steps[0].run)) and callable(attribute(compiled.services[0].entry))


def _llama(folder: Path, **changes: Any) -> Path:
    config = DECODERS["llama"]
    checkpoint = write_checkpoint(folder, config, decoder_tensors(config))
    (checkpoint / "config.json").write_text(json.dumps(config | changes))
    return checkpoint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, r"'mamba' is not one.*gemma3_text, llama.*export: true.*GB"),
        ({"model_type": None, "architectures": ["Odd"]}, "'Odd'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "rope scaling of type 'yarn'"),
        ({"partial_rotary_factor": 0.5}, "partial rotary"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised already.*gptq"),
        ({"hidden_act": "relu6"}, "activation 'relu6'"),
        ({"num_hidden_layers": 3}, r"model\.layers\.2\.\S+ is missing"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"vocab_size": 129}, r"\[128, 64\].*\[129, 64\]"),
        ({"layer_types": ["full_attention"]}, "names 1 layers"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layers of type linear_attention"),
        ({"model_type": "bert"}, "'bert'.*Set type: embedding"),
    ],
)
def test_what_cannot_be_compiled_is_said(changes: dict[str, Any], message: str, tmp_path: Path, build: Build) -> None:
    with pytest.raises(SourceError) as caught:
        build(_llama(tmp_path / "m", **changes), type="llm")
    import re

    assert re.search(message, str(caught.value), re.DOTALL)
    assert caught.value.hint and caught.value.where


def test_a_context_beyond_the_model_is_refused(tmp_path: Path, build: Build) -> None:
    with pytest.raises(SourceError, match="context 200 is more than the 128 positions"):
        build(_llama(tmp_path / "m"), type="llm", context=200)


def test_missing_tokenizer_and_missing_end(tmp_path: Path, build: Build) -> None:
    checkpoint = _llama(tmp_path / "m", eos_token_id=None)
    (checkpoint / "tokenizer_config.json").unlink()
    with pytest.raises(SourceError, match="no end-of-text token"):
        build(checkpoint, type="llm")
    (checkpoint / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match=r"tokenizer\.json is missing"):
        build(checkpoint, type="llm")


@pytest.mark.parametrize("name", ["README.md", "model.gguf", "pytorch_model.bin"])
def test_a_source_without_a_model(name: str, tmp_path: Path, build: Build) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_text("x")
    with pytest.raises(SourceError, match=r"(?s)no model among its 1 files.*never opened"):
        build(tmp_path / "m", type="llm")


def test_a_wrong_interpreter_for_the_export_is_explained(tmp_path: Path, build: Build) -> None:
    from lsbuild.api import StepError

    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho No module named optimum; exit 3\n")
    fake.chmod(0o755)
    with pytest.raises(StepError, match=r"exit status 3.*No module named optimum"):
        build(_llama(tmp_path / "m", model_type="mamba"), type="llm", config={"export": str(fake)})


def test_the_export_environment_is_locked() -> None:
    lock = (Path(export.__file__).parent / "export.txt").read_text()
    pins = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert {"optimum-onnx", "torch", "transformers"} <= {pin.split("==")[0] for pin in pins}
    assert all("==" in pin for pin in pins) and lock.count("--hash=sha256:") > len(pins)
    assert "://" not in lock


GPU = ("tensorrt", "cuda", "cpu")


def _compiled(providers: tuple[str, ...], **spec: Any) -> Any:
    return PLUGIN.compile(_item(**spec), Given({"weights": Source("./m", ())}, providers=providers))


def test_a_graph_is_fitted_to_what_the_target_runs_it_on() -> None:
    assert "providers" not in _compiled(("cpu",)).steps[0].options
    assert _compiled(GPU).steps[0].options["providers"] == list(GPU)


@pytest.mark.parametrize(
    ("kind", "providers", "quantize"),
    [
        ("llm", GPU, "int4"),
        ("embedding", ("cpu",), "int8"),
        ("embedding", ("cuda", "cpu"), "int8"),
        ("embedding", GPU, "none"),
        ("rerank", GPU, "none"),
    ],
)
def test_what_tensorrt_may_run_stays_in_float(kind: str, providers: tuple[str, ...], quantize: str) -> None:
    assert _compiled(providers, type=kind).steps[0].options["quantize"] == quantize
    assert _compiled(providers, type=kind, quantize="int8").steps[0].options["quantize"] == "int8"


def test_a_model_may_choose_among_the_targets_providers() -> None:
    found = _compiled(GPU, type="embedding", config={"providers": ["cpu"]})
    assert found.steps[0].options["quantize"] == "int8"
    assert found.services[0].config["execution"] == {"providers": ["cpu"]}
    found = _compiled(GPU, config={"providers": ["cuda", "cpu"]})
    assert found.steps[0].options["providers"] == ["cuda", "cpu"]
    assert "execution" not in _compiled(("cpu",), config={"providers": ["cuda", "cpu"]}).services[0].config
    assert "execution" not in _compiled(GPU).services[0].config


@pytest.mark.parametrize("providers", [["rocm"], [], "cuda"])
def test_providers_that_nobody_has_are_refused(providers: object) -> None:
    paths = {problem.path[:2] for problem in PLUGIN.check(_item(config={"providers": providers}))}
    assert paths == {("config", "providers")}
