"""Schemas known at build: taken from files and from the tools that other steps wrote, or a build that stops and says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Given, Item, Source, SourceError, StepContext
from lsbuild.registry import attribute
from lsbuild.spec.model import Model
from lsbuild_plugins.onnx.plugin import PLUGIN
from lsbuild_plugins.onnx.serve import known
from onnx_compile_models import as_source

POINT = {"type": "object", "title": "Point", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
PLAIN = {key: value for key, value in POINT.items() if key != "title"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def run(tmp_path: Path, *files: Path) -> dict[str, Any]:
    out = tmp_path / "grammars" / "chat"
    out.mkdir(parents=True)
    sources = {f"schema{n}": as_source(path) for n, path in enumerate(files)}
    step = attribute("lsbuild_plugins.onnx.compile.schemas:run")
    facts: dict[str, Any] = step(StepContext(out, {}, sources, {}, lambda *_: None))
    return facts


def written(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_what_is_compiled_is_found_by_the_serve_half(tmp_path: Path) -> None:
    facts = run(tmp_path, written(tmp_path / "p.json", POINT), written(tmp_path / "tools.json", [TOOL]))
    found = known.read(tmp_path, "chat")
    assert facts == {"schemas": 2} and len(found) == 2
    assert found[known.digest(POINT)] == PLAIN
    assert found[known.digest(TOOL["function"]["parameters"])] == {"type": "object", "properties": {}}  # type: ignore[index]
    assert known.read(tmp_path, "other") == {}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"properties": {"x": {"not": {}}}}, r"s\.json\.properties\.x\.not: 'not' cannot be enforced"),
        ({"pattern": "(a)\\1"}, "a pattern cannot be used: backreferences"),
        ("{", "s.json is not JSON"),
        ([{"type": "function"}], r"s\.json\[0\] is no function with parameters"),
        ([{"function": {"parameters": {"type": "text"}}}], r"s\.json\[0\]\.function\.parameters\.type: 'text'"),
    ],
)
def test_a_schema_that_cannot_be_enforced_stops_the_build(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        run(tmp_path, written(tmp_path / "s.json", value))


def test_a_model_declares_its_schemas() -> None:
    item = Item(
        "models", "chat", "inline::onnx", Model(type="llm", source="./m", config={"schemas": ["./a.json"]}), Path()
    )
    assert not list(PLUGIN.check(item))
    assert PLUGIN.sources(item) == {"weights": "./m", "schema0": "./a.json"}
    compiled = PLUGIN.compile(item, Given({"weights": Source("./m", ()), "schema0": Source("./a.json", ())}))
    assert [step.ship for step in compiled.steps] == ["models/chat", "grammars/chat"]
    assert set(compiled.steps[1].sources) == {"schema0"}
    assert any(wheel.startswith("llguidance") for wheel in compiled.wheels)


def test_schemas_are_for_language_models() -> None:
    item = Item(
        "models", "m", "inline::onnx", Model(type="embedding", source="./m", config={"schemas": ["./a"]}), Path()
    )
    assert [problem.path for problem in PLUGIN.check(item)] == [("config", "schemas")]
