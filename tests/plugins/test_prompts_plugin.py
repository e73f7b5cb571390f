"""`inline::prompts` for the builder: what it refuses, what it ships, what the runtime finds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Given, Item, Service, Source, SourceError, SourceFile, StepContext
from lsbuild.spec.load import load
from lsbuild.spec.model import Prompt
from lsbuild_plugins.prompts.plugin import PLUGIN, write
from lsbuild_runtime.prompts import open_prompt
from lsbuild_runtime.services import Services
from small_services import small_manifest


def item(**spec: Any) -> Item:
    """A prompt of a spec."""
    return Item("prompts", "greet", "inline::prompts", Prompt(**spec), Path("spec"))


def source(path: Path) -> Source:
    """The source of one file."""
    data = path.read_bytes()
    return Source("./greet.md", (SourceFile(path.name, path, hashlib.sha256(data).hexdigest(), len(data)),))


def shipped(root: Path, of: Item, **sources: Source) -> Service:
    """Run the one step below ``root`` as the bundle has it; the service."""
    compiled = PLUGIN.compile(of, Given(sources))
    (step,), (service,) = compiled.steps, compiled.services
    out = root / step.ship
    out.mkdir(parents=True)
    write(StepContext(out, step.options, step.sources, {}, lambda _done, _total, _label: None))
    return service


def opened(root: Path, service: Service) -> Any:
    """What the runtime makes of it."""
    return open_prompt(service, root, Services(small_manifest([service]), root))


def test_a_text_of_the_spec_reaches_the_runtime(tmp_path: Path) -> None:
    prompt = opened(tmp_path, shipped(tmp_path, item(text="Greet {{name}}.", variables=("name", "mood"))))
    assert (prompt.id, prompt.version, prompt.text) == ("greet", 1, "Greet {{name}}.")
    assert prompt.variables == ("name", "mood")


def test_a_text_in_a_file_is_a_source(tmp_path: Path) -> None:
    path = tmp_path / "greet.md"
    path.write_text("Grüße {{name}}.\n", encoding="utf-8")
    prompt = item(text="prompts/greet.md")
    assert PLUGIN.sources(prompt) == {"text": "prompts/greet.md"}
    found = opened(tmp_path, shipped(tmp_path, prompt, text=source(path)))
    assert (found.text, found.variables) == ("Grüße {{name}}.", ("name",))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"text": "{{a}}", "variables": ("b",)}, "variables: the text has {{a}}, which is not among them"),
        ({"text": "x", "variables": ("a b",)}, "variables[0]: a name is letters"),
        ({"text": "x.md", "variables": ("a", "a")}, "variables[1]: 'a' is named twice"),
    ],
)
def test_a_wrong_declaration_is_a_problem_of_the_spec(spec: dict[str, Any], message: str) -> None:
    (problem,) = PLUGIN.check(item(**spec))
    assert problem.path == ("variables",)
    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"  \n", "is empty"), (b"\xff", "not UTF-8"), (b"{{b}}", "has {{b}}, which is not among them")],
)
def test_a_wrong_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "greet.md"
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        shipped(tmp_path, item(text="greet.md", variables=("a",)), text=source(path))
    assert message in str(caught.value)
    assert "greet.md" in str(caught.value)


def test_both_forms_of_the_spec_are_read(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("prompts:\n  a: Hello {{b}}\n  c: {text: x.md, variables: [d]}\n")
    prompts = load(spec, environ={}, target="host").spec.prompts
    assert prompts["a"] == Prompt(text="Hello {{b}}")
    assert prompts["c"].variables == ("d",)
