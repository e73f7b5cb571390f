"""Moderations of another server as a shield, and routes of shields, before little servers that fail in every known way."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from failing_server import Behaviour, Upstream, fault, hangs, resets, sends, status
from live_server import serving
from lsbuild.api import Compiled, Given, Item
from lsbuild.errors import SpecError
from lsbuild.spec.load import load
from lsbuild.spec.model import Shield
from lsbuild_plugins.openai.plugin import PLUGIN
from lsbuild_plugins.route.plugin import PLUGIN as ROUTE
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from runtime_asking import asked
from small_services import PARROT, small_manifest
from small_shields import words

Listen = Callable[[Behaviour], Upstream]


def item(provider: str, **spec: Any) -> Item:
    return Item("shields", "cloud", provider, Shield(provider=provider, **spec), Path())


def remote(base: str, **config: Any) -> Service:
    """What the builder makes of a spec."""
    made = item("remote::openai", config={"base_url": base, **config})
    assert not list(PLUGIN.check(made))
    return PLUGIN.compile(made, Given({})).services[0]


def routed(*candidates: dict[str, Any], fail: str = "closed", **shields: Service) -> Service:
    """A route over shields that the builder compiled."""
    made = dataclasses.replace(item("inline::route", route=candidates), name="either")
    assert not list(ROUTE.check(made))
    peers = {("shields", name): Compiled(services=(each,)) for name, each in shields.items()}
    service = ROUTE.compile(made, Given({}, peers)).services[0]
    return replace(service, config={**service.config, "fail": fail})


def verdict(*found: str, flagged: bool | None = None, **scores: float) -> Behaviour:
    """A moderation of one text."""
    names = ("violence", "hate", "sexual/minors")
    result = {
        "flagged": bool(found) if flagged is None else flagged,
        "categories": {name: name in found for name in names},
        "category_scores": {name: scores.get(name, 0.9 if name in found else 0.01) for name in names},
    }
    return status(200, {"id": "m", "model": "omni", "results": [result]})


@pytest.fixture
def listen() -> Iterator[Listen]:
    """``listen(behaviour)``: a server that behaves so."""
    with ExitStack() as stack:

        def made(behaviour: Behaviour) -> Upstream:
            upstream = Upstream(behaviour)
            stack.callback(upstream.close)
            return upstream

        yield made


def port_of(service: Service, root: Path) -> Any:
    return App(small_manifest([service]), root).services.get("safety", service.name)


def test_what_the_other_side_flags_is_blocked(listen: Listen, tmp_path: Path) -> None:
    upstream = listen(verdict("violence"))
    port = port_of(remote(upstream.base, model="omni"), tmp_path)
    found = port.check("a text", "input", Context())
    assert (found.blocked.category, found.blocked.rule, found.blocked.score) == ("violence", "cloud.violence", 0.9)
    assert found.scores == {"violence": 0.9, "hate": 0.01, "sexual/minors": 0.01}
    assert json.loads(upstream.bodies[0]) == {"input": "a text", "model": "omni"}
    assert {each.name: each.llama_guard for each in port.categories()}["sexual/minors"] == ("S4",)


def test_the_key_is_sent_and_no_model_is_made_up(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODERATION_KEY", "k-1")
    upstream = listen(verdict())
    service = remote(upstream.base, api_key={"secret": "MODERATION_KEY"})
    assert service.config["api_key"] == {"secret": "MODERATION_KEY"}
    assert port_of(service, tmp_path).check("x", "input", Context()).findings == ()
    assert json.loads(upstream.bodies[0]) == {"input": "x"}
    monkeypatch.delenv("MODERATION_KEY")
    with pytest.raises(ApiError, match="MODERATION_KEY"):
        port_of(service, tmp_path)


def test_actions_and_thresholds_are_the_specs(listen: Listen, tmp_path: Path) -> None:
    upstream = listen(verdict("violence", "hate", **{"sexual/minors": 0.3}))
    config: dict[str, Any] = {"actions": {"violence": "off", "hate": "warn"}, "thresholds": {"sexual/minors": 0.2}}
    found = port_of(remote(upstream.base, **config), tmp_path).check("x", "input", Context())
    assert [(each.category, each.action) for each in found.findings] == [("hate", "warn"), ("sexual/minors", "block")]


def test_a_flag_without_a_category_still_blocks(listen: Listen, tmp_path: Path) -> None:
    found = port_of(remote(listen(verdict(flagged=True)).base), tmp_path).check("x", "input", Context())
    assert found.blocked.category == "flagged"


GARBAGE = [
    (status(429, fault(), "retry-after: 3"), 429),
    (status(500, fault()), 502),
    (status(401, fault()), 502),
    (status(400, fault(message="no such field")), 502),
    (resets, 502),
    (sends(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"), 502),
    (sends(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nnot json!"), 502),
    (status(200, {"results": []}), 502),
    (status(200, {"results": [{"flagged": "no", "categories": {}}]}), 502),
    (status(200, {"results": [{"categories": {"violence": False}}]}), 502),
    (status(200, {"results": [{"flagged": False, "categories": {}}] * 2}), 502),
    (status(200, {"error": {"message": "overloaded"}, "results": []}), 502),
]


@pytest.mark.parametrize(("behaviour", "number"), GARBAGE)
def test_what_is_no_verdict_is_an_error(behaviour: Behaviour, number: int, listen: Listen, tmp_path: Path) -> None:
    service = remote(listen(behaviour).base)
    parrot = replace(PARROT, needs=("safety/cloud",))
    ask = functools.partial(asked, App(small_manifest([service, parrot]), tmp_path))
    assert ask("POST", "/v1/moderations", {"input": "x"}).status == number
    chat = {"model": PARROT.name, "messages": [{"role": "user", "content": "hello"}]}
    closed = ask("POST", "/v1/chat/completions", chat)
    assert (closed.status, closed.error["code"]) == (503, "shield_unavailable")
    opened = App(small_manifest([replace(service, config={**service.config, "fail": "open"}), parrot]), tmp_path)
    assert asked(opened, "POST", "/v1/chat/completions", chat).json["choices"][0]["message"]["content"] == "hello"


def test_a_score_that_was_asked_for_and_is_missing_is_an_error(listen: Listen, tmp_path: Path) -> None:
    port = port_of(remote(listen(verdict()).base, thresholds={"self-harm": 0.5}), tmp_path)
    with pytest.raises(ApiError, match="no score for self-harm"):
        port.check("x", "input", Context())


def test_silence_is_an_error_after_the_timeout(listen: Listen, tmp_path: Path) -> None:
    upstream = listen(hangs)
    with pytest.raises(ApiError, match=r"silent for 0\.2 s"):
        port_of(remote(upstream.base, timeout="200ms"), tmp_path).check("x", "input", Context())


def test_our_own_server_may_be_the_other_side(tmp_path: Path) -> None:
    with serving(App(small_manifest([words(word="ours")]), tmp_path)) as base:
        port = port_of(remote(f"{base}/v1", model="words"), tmp_path)
        found = port.check("this is ours", "input", Context())
        port.judge.upstream.close()
    # It names its own category and OpenAI's.
    assert [each.category for each in found.findings] == ["violence", "ours"]


def either(tmp_path: Path, first: Service, *candidates: dict[str, Any], **config: Any) -> App:
    last = words("words", 0, word="bad", every=config.pop("every", None))
    route = routed(*(candidates or ({"shield": "cloud"}, {"shield": "words"})), cloud=first, words=last, **config)
    parrot = replace(PARROT, needs=("safety/either",))
    return App(small_manifest([first, last, route, parrot]), tmp_path)


@pytest.mark.parametrize("behaviour", [each for each, _ in GARBAGE])
def test_another_shield_stands_in(behaviour: Behaviour, listen: Listen, tmp_path: Path) -> None:
    app = either(tmp_path, remote(listen(behaviour).base))
    answer = asked(app, "POST", "/v1/moderations", {"input": ["a bad text"], "model": "either"})
    assert (answer.status, answer.json["results"][0]["categories"]["bad"]) == (200, True)
    assert answer.headers["x-lsbuild-model"] == "words"
    assert answer.headers["x-lsbuild-attempts"].endswith("words=ok")
    chat = {"model": PARROT.name, "messages": [{"role": "user", "content": "a bad text"}]}
    refused = asked(app, "POST", "/v1/chat/completions", chat)
    assert refused.json["choices"][0]["finish_reason"] == "content_filter"
    assert "x-lsbuild-model" not in refused.headers  # that would be the model that answers


def test_a_slow_shield_is_left_after_its_own_time(listen: Listen, tmp_path: Path) -> None:
    upstream = listen(hangs)
    app = either(tmp_path, remote(upstream.base), {"shield": "cloud", "timeout": "300ms"}, {"shield": "words"})
    answer = asked(app, "POST", "/v1/moderations", {"input": "fine", "model": "either"})
    assert (answer.status, answer.headers["x-lsbuild-attempts"]) == (200, "cloud=timeout, words=ok")


def test_a_candidate_is_asked_for_the_failures_it_names(listen: Listen, tmp_path: Path) -> None:
    first = remote(listen(status(429, fault())).base)
    app = either(tmp_path, first, {"shield": "cloud"}, {"shield": "words", "on": ["timeout"]})
    answer = asked(app, "POST", "/v1/moderations", {"input": "fine", "model": "either"})
    assert (answer.status, answer.error["code"]) == (429, "upstream_rate_limit")
    chat = {"model": PARROT.name, "messages": [{"role": "user", "content": "fine"}]}
    assert asked(app, "POST", "/v1/chat/completions", chat).status == 503


def turns(*behaviours: Behaviour) -> Behaviour:
    """One after the other, the last one for good."""
    left = list(behaviours)

    def behave(connection: Any, upstream: Upstream) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(connection, upstream)

    return behave


def test_a_stream_is_handed_over_with_all_that_was_held(listen: Listen, tmp_path: Path) -> None:
    text = "One sentence that is fine. Two sentences that are fine. And here is one that is bad. The end."
    upstream = listen(turns(verdict(), resets))
    app = either(tmp_path, remote(upstream.base, every=40), every=40)
    for size in (1, 7, len(text)):
        upstream.behaviour = turns(verdict(), resets)
        guard = app.services.get("safety", "either").guard("output", Context())
        said = "".join(guard.feed(text[place : place + size]) for place in range(0, len(text), size))
        if guard.blocked is None:
            said += guard.end()
        assert guard.blocked is not None and guard.blocked.category == "bad"
        assert said == "One sentence that is fine. Two sentences that are fine. "


def test_a_stream_that_nobody_can_look_at_ends_with_an_error(listen: Listen, tmp_path: Path) -> None:
    first = remote(listen(resets).base, every=40)
    for fail in ("closed", "open"):
        folder = tmp_path / fail
        folder.mkdir()
        app = either(folder, first, fail=fail, every=40)
        said = "This will break it all, I fear. " * 3
        answer = asked(
            app, "POST", "/v1/chat/completions",
            {"model": PARROT.name, "stream": True, "messages": [{"role": "assistant", "content": said}]},
        )  # fmt: skip
        if fail == "closed":
            assert (answer.status, answer.error["code"]) == (503, "shield_unavailable")
        else:
            text = "".join(each["choices"][0]["delta"].get("content", "") for each in answer.events)
            assert text == said.strip()


def test_a_route_costs_what_its_dearest_does_and_needs_all(tmp_path: Path) -> None:
    service = routed(
        {"shield": "cloud"}, {"shield": "words"}, cloud=remote("http://127.0.0.1:9/v1"), words=words(cost=0)
    )
    assert service.metadata == {"cost": 2, "route": ["cloud", "words"]}
    assert service.needs == ("safety/cloud", "safety/words")


@pytest.mark.parametrize(
    ("route", "words_"),
    [
        ("[{shield: nobody}]", "there is no shield 'nobody'"),
        ("[{shield: either}]", "cannot lead to itself"),
        ("[{shield: other}]", "lead in a circle: either -> other -> either"),
    ],
)
def test_routes_that_lead_nowhere_are_named(route: str, words_: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "shields:\n  guard: {config: {packs: [pii]}}\n  other: {route: [{shield: either}]}\n"
        f"  either: {{route: {route}}}\n"
    )
    with pytest.raises(SpecError, match=words_):
        load(path, environ={})


def test_faults_of_the_spec_are_named() -> None:
    def said(provider: str, **spec: Any) -> list[str]:
        plugin = ROUTE if provider == "inline::route" else PLUGIN
        return [f"{'.'.join(map(str, p.path))}: {p.message}" for p in plugin.check(item(provider, **spec))]

    url = {"base_url": "http://127.0.0.1/v1"}
    assert any("base_url" in each for each in said("remote::openai"))
    assert any(
        each.startswith("config.base_url: 'x' is not") for each in said("remote::openai", config={"base_url": "x"})
    )
    assert any(
        each.startswith("model: 'model' is not for remote::openai; the model's name")
        for each in said("remote::openai", model="m", config=url)
    )
    assert any(
        each.startswith("config.actions.hate")
        for each in said("remote::openai", config={**url, "actions": {"hate": "burn"}})
    )
    assert said("remote::openai", config={**url, "timeout": "3s", "every": "whole"}) == []
    assert any("missing key 'route'" in each for each in said("inline::route"))
    two = ({"shield": "a"}, {"shield": "a"})
    assert any("'a' is in the list twice" in each for each in said("inline::route", route=two))
    assert any("config.hedge" in each for each in said("inline::route", route=two[:1], config={"hedge": "1s"}))
