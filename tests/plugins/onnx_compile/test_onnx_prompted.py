"""What an agent tells a local model with every request: schemas that its serve half finds, and warnings instead of surprises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lsbuild.api import Given, Item, Source, StepContext
from lsbuild.registry import attribute
from lsbuild.spec.model import Model
from lsbuild_plugins.onnx.plugin import PLUGIN
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve import known
from lsbuild_plugins.onnx.serve.engine import open_engine
from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Chat, Sampling
from onnx_serve_models import NoHost, service, write_decoder

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": ""}]
MOVE = {
    "name": "move",
    "description": "Moves.",
    "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
}
ODD = {"name": "odd", "description": "", "parameters": {"type": "object", "properties": {"x": {"not": {}}}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("prompted") / "tiny", context=2048)


def run(out: Path, folder: Path, **told: Any) -> dict[str, Any]:
    """The facts of the step that the plugin declares, run as an agent would have it run."""
    item = Item("models", "tiny", "inline::onnx", Model(type="llm", source="./m"), Path())
    step = PLUGIN.compile(item, Given({"weights": Source("./m", ())})).prompted
    assert step is not None and step.needs == {"model": "models.tiny.graph"}
    options = {"messages": MESSAGES, "functions": [], "passages": 0, "answer": 16, **step.options, **told}
    (out / step.ship).mkdir(parents=True)
    facts: dict[str, Any] = attribute(step.run)(
        StepContext(out / step.ship, options, {}, {"model": folder}, lambda *_: None)
    )
    return facts


def with_card(folder: Path, copy: Path, **card: Any) -> Path:
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    found = model_format.read(folder)
    (copy / "model.json").unlink()
    model_format.write(copy, replace(found, **card))
    return copy


def test_functions_are_found_by_the_serve_half_and_the_prompt_is_counted_as_it_counts(
    folder: Path, tmp_path: Path
) -> None:
    facts = run(tmp_path, folder, functions=[MOVE])
    assert known.read(tmp_path, "tiny") == {known.digest(MOVE["parameters"]): MOVE["parameters"]}
    engine = open_engine(service("tiny"), folder, NoHost())
    tools = [{"type": "function", "function": MOVE}]
    counted = engine.count(Chat(MESSAGES, Sampling(), tools=tools, tool_choice="auto", stream=False), Context())
    engine.close()
    assert facts == {"schemas": 1, "prompt": counted, "warnings": []}


def test_a_function_that_cannot_be_enforced_is_named_and_the_others_are_kept(folder: Path, tmp_path: Path) -> None:
    facts = run(tmp_path, folder, functions=[ODD, MOVE])
    assert facts["schemas"] == 1 and set(known.read(tmp_path, "tiny")) == {known.digest(MOVE["parameters"])}
    (warning,) = facts["warnings"]
    assert warning.startswith(
        "tiny cannot be held to the parameters of odd while it writes a call: odd.properties.x.not"
    )


def test_a_model_whose_template_knows_no_tools_is_told_of_none(folder: Path, tmp_path: Path) -> None:
    facts = run(tmp_path / "out", with_card(folder, tmp_path / "model", tools=None), functions=[MOVE])
    assert facts["schemas"] == 0
    assert facts["warnings"] == [
        "the chat template of tiny knows no tools, so that it refuses requests with them: move"
    ]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"answer": 2048}, "refuses every request of 2048"),
        ({"passages": 2000, "answer": 40}, "2000 of passages leave no room"),
        ({"passages": 1000, "answer": 40}, ""),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "refuses every request"),
    ],
)
def test_what_does_not_fit_is_said_with_the_numbers(folder: Path, tmp_path: Path, told: Any, said: str) -> None:
    warnings = run(tmp_path, folder, **told)["warnings"]
    assert said in "".join(warnings) and len(warnings) == bool(said)


def test_what_the_template_refuses_is_told(folder: Path, tmp_path: Path) -> None:
    copy = with_card(folder, tmp_path / "model")
    (copy / "chat_template.jinja").unlink()
    (copy / "chat_template.jinja").write_text("{{ raise_exception('no system message') }}")
    (warning,) = run(tmp_path / "out", copy)["warnings"]
    assert "no system message" in warning and warning.startswith("tiny cannot be asked")
