"""`inline::route` for the builder: what it refuses, what the runtime is told, and what its candidates have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Compiled, Given, Item, Service
from lsbuild.common import common, with_common
from lsbuild.errors import SpecError
from lsbuild.proving.questions import questions
from lsbuild.spec.load import load
from lsbuild.spec.model import Model
from lsbuild_plugins.route.plugin import PLUGIN
from lsbuild_runtime.federation.route import settings_of
from lsbuild_runtime.manifest import Manifest
from small_services import small_manifest


def item(*route: dict[str, Any], kind: str = "llm", **spec: Any) -> Item:
    """A route of a spec."""
    return Item("models", "best", "inline::route", Model(**{"type": kind, "route": route, **spec}), Path("spec"))


def faults(*route: dict[str, Any], **spec: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """What the plugin refuses."""
    return [(problem.path, problem.message) for problem in PLUGIN.check(item(*route, **spec))]


def test_what_the_spec_says_reaches_the_runtime() -> None:
    routed = item(
        {"model": "chat", "timeout": "5s", "weight": 2},
        {"model": "cloud", "on": ["error", "cost"], "retries": 2, "budget": {"tokens_per_day": 9}},
        context=512,
        config={"hedge": "500ms", "sticky": False, "breaker": {"calls": 3, "open": "1m"}},
    )
    assert faults(*routed.spec.model_dump(mode="json")["route"]) == []
    assert list(PLUGIN.refers(routed)) == [("models", "chat"), ("models", "cloud")]
    (service,) = PLUGIN.compile(routed, Given({})).services
    assert (service.api, service.needs) == ("inference", ("inference/chat", "inference/cloud"))
    assert service.metadata == {"model_type": "llm", "route": ["chat", "cloud"], "context_length": 512}
    settings = settings_of(service)
    assert (settings.hedge, settings.sticky) == (0.5, False)
    assert (settings.breaker.calls, settings.breaker.open, settings.breaker.ratio) == (3, 60.0, 0.5)
    chat, cloud = settings.candidates
    assert (chat.timeout, chat.weight, chat.on) == (5.0, 2.0, ("error", "timeout", "overload"))
    assert (cloud.on, cloud.retries, cloud.budget.tokens_per_day) == (("error", "cost"), 2, 9)


@pytest.mark.parametrize(
    ("route", "spec", "path", "words"),
    [
        ([], {}, (), "list the models"),
        ([{"model": "a"}, {"model": "a"}], {}, ("route", 1, "model"), "twice"),
        ([{"model": "a", "on": ["cost"]}], {}, ("route", 0, "on"), "nobody comes before"),
        ([{"model": "a"}, {"model": "b", "on": []}], {}, ("route", 1, "on"), "empty"),
        ([{"model": "a"}, {"model": "b", "same_as": "a"}], {}, ("route", 1, "same_as"), "embedding models only"),
        ([{"model": "a"}, {"model": "b"}], {"kind": "embedding"}, ("route", 1, "same_as"), "say same_as: a"),
        ([{"model": "a", "same_as": "a"}], {"kind": "embedding"}, ("route", 0, "same_as"), "after the first"),
        ([{"model": "a"}], {"kind": "rerank"}, ("type",), "llm and embedding"),
        ([{"model": "a"}], {"source": "./x"}, ("source",), "models with weights"),
        ([{"model": "a"}], {"config": {"hegde": "1s"}}, ("config", "hegde"), "not permitted"),
    ],
)
def test_what_is_refused(
    route: list[dict[str, Any]], spec: dict[str, Any], path: tuple[str | int, ...], words: str
) -> None:
    assert [where for where, message in faults(*route, **spec) if words in message] == [path]


def test_embedding_candidates_that_are_declared_the_same_are_taken() -> None:
    assert faults({"model": "a"}, {"model": "b", "same_as": "a"}, kind="embedding") == []


def spec_faults(tmp_path: Path, models: str) -> str:
    """What the spec's own checks say."""
    path = tmp_path / "spec.yaml"
    path.write_text("models:\n  chat: {type: llm, source: ./x}\n  embed: {type: embedding, source: ./x}\n" + models)
    with pytest.raises(SpecError) as caught:
        load(path, environ={})
    return "\n".join(f"{problem.where.rpartition('/')[2]} {problem.message}" for problem in caught.value.problems)


def test_names_and_circles_are_found_in_the_spec(tmp_path: Path) -> None:
    found = spec_faults(
        tmp_path,
        "  one: {type: llm, route: [{model: two}]}\n"
        "  two: {type: llm, route: [{model: chat}, {model: one}]}\n"
        "  self: {type: llm, route: [{model: self}]}\n"
        "  wrong: {type: llm, route: [{model: caht}, {model: embed}, {model: helper}]}\n"
        "agents:\n  helper: {model: one}\n",
    )
    assert "spec.yaml:4:36 these routes lead in a circle: one -> two -> one" in found
    assert "spec.yaml:6:37 a route cannot lead to itself" in found
    assert "there is no model 'caht'. Did you mean 'chat'?" in found
    assert "'embed' is an embedding model; this route needs type: llm" in found
    assert "'helper' is an agent; a route leads to models" in found


def test_a_route_needs_no_provider_and_takes_no_other(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("models:\n  chat: {type: llm, source: ./x}\n  best: {type: llm, route: [{model: chat}]}\n")
    assert load(path, environ={}).spec.models["best"].provider == "inline::route"
    found = spec_faults(tmp_path, "  best: {type: llm, provider: 'inline::onnx', route: [{model: chat}]}\n")
    assert "inline::onnx takes no route" in found


def test_a_route_can_do_what_all_its_candidates_can() -> None:
    local = {"context_length": 2048, "sampling": {"top_p": 0.9}, "accepts": ["a", "b"], "modalities": ["text"]}
    cloud = {"context_length": 8192, "accepts": ["*"], "modalities": ["text", "image"]}
    assert common([local, cloud]) == {"context_length": 2048, "accepts": ["a", "b"], "modalities": ["text"]}
    assert common([local, {}]) == {}
    assert common([{"chat": False}, {}]) == {"chat": False}


def test_vectors_of_different_lengths_are_refused() -> None:
    routed = item({"model": "a"}, {"model": "b", "same_as": "a"}, kind="embedding")
    (service,) = PLUGIN.compile(routed, Given({})).services
    assert with_common(service, [{"embedding_dimension": 8}] * 2).metadata["embedding_dimension"] == 8
    with pytest.raises(SpecError, match="vectors of 8 and 9 numbers"):
        with_common(service, [{"embedding_dimension": 8}, {"embedding_dimension": 9}])


def test_verify_does_not_ask_a_route_that_leads_away() -> None:
    cloud = Service(api="inference", name="cloud", provider="remote::openai", entry="e")
    (best,) = PLUGIN.compile(item({"model": "cloud"}), Given({}, {("models", "cloud"): Compiled()})).services
    manifest: Manifest = small_manifest([cloud, best])
    checks = {check.name: check.detail for check in questions(manifest)("http://127.0.0.1:9")}
    assert checks["inference best"] == "not asked: it would leave this machine"
