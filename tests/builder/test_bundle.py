"""What goes into a bundle: files with hashes, services with what their steps found, and budgets that hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsbuild import bundle, bytecode, gates, inspection
from lsbuild.api import Bundle, Compiled, Platform, Service, Step, StepContext
from lsbuild.errors import GateError, StepError
from lsbuild.spec.model import Budgets, Spec
from lsbuild_runtime.routes import ROUTES

HOST = Platform("x86_64", "3.11")


def service(api: str, name: str, **more: object) -> Service:
    return Service(api=api, name=name, provider="inline::x", entry="m:f", **more)  # type: ignore[arg-type]


@pytest.fixture
def made(tmp_path: Path) -> Bundle:
    (tmp_path / "model.onnx").write_bytes(b"12345")
    step = Step("models.chat.graph", "m:f", ship="models/chat")
    facts = {"context_length": 64, "accepts": ["*"], "sampling": {"temperature": 0.0, "top_p": 0.5}, "private": 1}
    shipped = bundle.Shipped(step, tmp_path, {"model.onnx": ("ab" * 32, 5)}, facts)
    compiled = {
        ("models", "chat"): Compiled(
            services=(service("inference", "chat", path="models/chat", metadata={"sampling": {"top_p": 0.9}}),)
        ),
        ("agents", "helper"): Compiled(services=(service("agents", "helper", needs=("inference/chat",)),)),
    }
    return bundle.assemble(Spec(name="x"), "host", HOST, [shipped], compiled, {"spec": "s"}, {})


def test_services_show_what_their_step_found_and_their_own_values_win(made: Bundle) -> None:
    chat, helper = made.manifest.services
    assert chat.metadata == {"context_length": 64, "accepts": ["*"], "sampling": {"temperature": 0.0, "top_p": 0.9}}
    assert helper.metadata == chat.metadata


def test_an_agent_shows_what_its_model_knows_and_nothing_of_agents_that_it_asks() -> None:
    compiled = {
        ("agents", "inner"): Compiled(services=(service("agents", "inner", metadata={"context_length": 64}),)),
        ("agents", "clerk"): Compiled(services=(service("agents", "clerk", metadata={"context_length": 8}),)),
        ("agents", "outer"): Compiled(
            services=(service("agents", "outer", config={"model": "inner"}, needs=("agents/inner", "agents/clerk")),)
        ),
    }
    made = bundle.assemble(Spec(name="x"), "host", HOST, [], compiled, {}, {})
    assert made.manifest.services[2].metadata == {"context_length": 64}


def test_every_file_is_in_the_manifest_by_component(made: Bundle) -> None:
    assert [file.path for file in made.files] == ["manifest.json", "models/chat/model.onnx"]
    entry = made.manifest.files[0]
    assert (entry.path, entry.size, entry.component) == ("models/chat/model.onnx", 5, "models.chat")


def test_a_budget_that_is_exceeded_fails_with_numbers(made: Bundle) -> None:
    gates.check(Budgets.model_validate({"artifact": "5B", "part_model": "5B"}), (made,))
    for budget in (Budgets.model_validate({name: "4B"}) for name in ("artifact", "part_model")):
        with pytest.raises(GateError, match=r"the budget is 0\.0 MB") as refused:
            gates.check(budget, (made,))
        assert "model.onnx" in refused.value.hint


def context(out: Path, *packages: str, python: str = "2.7") -> StepContext:
    return StepContext(
        out, {"packages": list(packages), "bytecode": bytecode.compiler(python)}, {}, {}, lambda *_: None
    )


def test_code_is_copied_with_its_parents_and_without_what_stands_beside_it(tmp_path: Path) -> None:
    bundle.collect(context(tmp_path, "lsbuild_plugins.onnx.serve"))
    assert (tmp_path / "lsbuild_plugins" / "onnx" / "__init__.py").is_file()
    assert (tmp_path / "lsbuild_plugins" / "onnx" / "serve" / "engine.py").is_file()
    assert not (tmp_path / "lsbuild_plugins" / "onnx" / "compile").exists()
    assert not list(tmp_path.rglob("*.pyc"))


def test_code_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"lsbuild_plugins\.nothing"):
        bundle.collect(context(tmp_path, "lsbuild_plugins.nothing"))


def test_inspect_knows_the_routes_that_the_runtime_has() -> None:
    """The builder may not call the runtime, so it has names of its own; this holds them together."""
    listed = {*inspection.COMMON_ROUTES, *(route for routes in inspection.ROUTES.values() for route in routes)}
    assert listed == {route.path.replace(":path}", "}") for route in ROUTES} - {"/"}
