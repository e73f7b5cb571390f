"""Shields of a spec stand before every service that answers chats, and before no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsbuild.api import Compiled, Service
from lsbuild.errors import SpecError
from lsbuild.shields import placed
from lsbuild.spec.load import load
from lsbuild.spec.model import Agent, Server, Spec

ENTRY = "m:f"
COMPILED = {
    ("models", "chat"): Compiled(services=(Service(api="inference", name="chat", provider="p", entry=ENTRY),)),
    ("models", "embed"): Compiled(services=(Service(api="embeddings", name="embed", provider="p", entry=ENTRY),)),
    ("agents", "helper"): Compiled(
        services=(Service(api="agents", name="helper", provider="p", entry=ENTRY, needs=("inference/chat",)),)
    ),
}


def needs(spec: Spec) -> dict[str, tuple[str, ...]]:
    return {name: each.services[0].needs for (_, name), each in placed(COMPILED, spec).items()}


def test_without_shields_nothing_changes() -> None:
    assert placed(COMPILED, Spec(agents={"helper": Agent(model="chat")})) == COMPILED


def test_those_of_the_server_stand_before_all_and_an_agent_s_own_behind_them() -> None:
    spec = Spec(agents={"helper": Agent(model="chat", shields=("strict", "guard"))}, server=Server(shields=("guard",)))
    assert needs(spec) == {
        "chat": ("safety/guard",),
        "embed": (),
        "helper": ("inference/chat", "safety/guard", "safety/strict"),
    }


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("server: {shields: [gaurd]}", "server.shields.0"),
        ("models: {m: {type: llm, source: x}}\nagents: {a: {model: m, shields: [gaurd]}}", "agents.a.shields.0"),
    ],
)
def test_a_shield_that_is_not_there_is_named(text: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"shields: {{guard: {{config: {{packs: [pii]}}}}}}\n{text}\n")
    with pytest.raises(SpecError, match=r"there is no shield 'gaurd'.*guard") as caught:
        load(path, environ={})
    assert [".".join(map(str, problem.path)) for problem in caught.value.problems] == [place]
