"""How long a prompt is: whoever stands around a model counts what the model would read; who cannot count says so."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from lsbuild_runtime.app import App
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat
from lsbuild_runtime.safety import Finding, Verdict
from lsbuild_runtime.safety.looking import Look
from lsbuild_runtime.safety.shielded import Shielded
from runtime_asking import Answer, asked
from small_services import PARROT, Parrot, small_manifest

REMOTE = Service(
    api="inference", name="cloud", provider="remote::openai", entry="lsbuild_plugins.openai.serve:open_inference",
    config={"base_url": "http://127.0.0.1:9/v1", "model": "m"},
)  # fmt: skip


def route(*candidates: str) -> Service:
    """A route over models."""
    return Service(
        api="inference", name="best", provider="inline::route", entry="lsbuild_runtime.federation.route:open_inference",
        config={"candidates": [{"model": name} for name in candidates]}, needs=tuple(f"inference/{n}" for n in candidates),
    )  # fmt: skip


def counted(folder: Path, model: str, *services: Service) -> Answer:
    """The count of three words by ``model``."""
    ask = functools.partial(asked, App(small_manifest(services), folder), "POST", "/v1/messages/count_tokens")
    return ask({"model": model, "messages": [{"role": "user", "content": "one two three"}]})


def test_a_route_asks_the_first_candidate_that_can_count(tmp_path: Path) -> None:
    assert counted(tmp_path, "best", REMOTE, PARROT, route("cloud", PARROT.name)).json == {"input_tokens": 3}


@pytest.mark.parametrize("model", ["cloud", "best"])
def test_a_model_behind_a_network_cannot_count(tmp_path: Path, model: str) -> None:
    answer = counted(tmp_path, model, REMOTE, route("cloud"))
    assert answer.status == 400
    assert "cannot count a prompt" in answer.json["error"]["message"]


class Short:
    """A shield that shortens texts to their first word and blocks "stop"."""

    def check(self, text: str, *_: Any) -> Verdict:
        """See shielding.Safety."""
        blocked = Finding("stop", "x", "block", 0, 4, "Not that.") if text.startswith("stop") else None
        return Verdict((), text.split()[0], blocked)


@pytest.mark.parametrize(("text", "tokens"), [("one two three", 1), ("stop it now", 3)])
def test_a_shield_counts_what_it_lets_through(text: str, tokens: int) -> None:
    shielded = Shielded(Parrot(), Look([Short()]))  # type: ignore[list-item]
    assert shielded.count(Chat([{"role": "user", "content": text}]), Context()) == tokens
