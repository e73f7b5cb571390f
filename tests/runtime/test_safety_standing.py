"""Shields as they stand before traffic: pieces of streams, failing closed and open, order, guardrails, an agent's look."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Delta
from lsbuild_runtime.safety import Finding, looking
from lsbuild_runtime.safety import shields as safety
from lsbuild_runtime.safety.failsafe import Failsafe
from lsbuild_runtime.safety.looking import Blocked
from lsbuild_runtime.safety.sentences import Pieces, PiecesGuard, end_of_piece
from lsbuild_runtime.services import Services
from lsbuild_runtime.watch import JsonWatch
from runtime_asking import Ask, asked
from small_services import HELPER, LETTERS, PARROT, SHELF, small_manifest
from small_shields import Words, words

SMALL = Pieces(10, 40, 20)
TEXTS = st.text(alphabet='ab .!?\n)"。é', max_size=200) | st.text(max_size=120)


def guard(word: str = "bad", action: Any = "block", pieces: Pieces = SMALL) -> tuple[PiecesGuard, list[str]]:
    asked_about: list[str] = []

    def look(text: str) -> list[Finding]:
        asked_about.append(text)
        return [Finding("r", word, action, 0, len(text), "m")] if word in text else []

    return PiecesGuard(look, pieces), asked_about


def fed(text: str, places: list[int], **how: Any) -> tuple[str, Any, Any]:
    made, _ = guard(**how)
    marks = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    said = "".join(made.feed(text[start:end]) for start, end in itertools.pairwise(marks)) + made.end()
    return said, made.findings(), made.blocked


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from(["block", "redact", "warn"]))
def test_pieces_do_not_depend_on_where_a_stream_is_cut(text: str, places: list[int], action: str) -> None:
    assert fed(text, places, word="ab", action=action) == fed(text, [], word="ab", action=action)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_what_is_harmless_passes_letter_for_letter(text: str) -> None:
    assert fed(text, list(range(len(text))), word="never") == (text, (), None)


def test_no_character_of_a_blocked_piece_is_sent_at_any_split() -> None:
    text = "The first sentence is fine. The second one is bad, sadly. A third."
    for place in range(len(text)):
        said, findings, blocked = fed(text, [place])
        assert said == "The first sentence is fine. "
        assert blocked == findings[0] and text[blocked.start : blocked.end] == "The second one is bad, sadly. "


def test_what_is_looked_at_is_bounded_and_has_its_context() -> None:
    made, asked_about = guard()
    text = "A sentence of words here. " * 200
    sent = 0
    for number in range(0, len(text), 5):
        sent += len(made.feed(text[number : number + 5]))
        assert number + 5 - sent <= SMALL.most + 5  # type: ignore[operator]
    assert max(map(len, asked_about)) <= 60
    assert sum(map(len, asked_about)) <= 4 * len(text)
    assert asked_about[1].endswith("A sentence of words here. ") and len(asked_about[1]) == 46


def test_a_long_text_without_sentences_goes_in_pieces_of_the_largest_size() -> None:
    assert end_of_piece("x" * 100, 0, SMALL) == 40
    assert end_of_piece("x" * 39, 0, SMALL) == 0
    assert end_of_piece("Short. But this sentence ends it. More", 0, SMALL) == 34
    assert end_of_piece("x" * 100, 0, Pieces(most=None)) == 0


def test_a_redacted_piece_is_replaced_whole() -> None:
    said, _, _ = fed("This is fine so far. This is bad indeed. And fine again.", [7, 30], action="redact")
    assert said == "This is fine so far. [bad]And fine again."


class Broken:
    """A look that fails once."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, text: str) -> list[Finding]:  # noqa: ARG002
        self.times += 1
        if self.times == 2:
            raise ApiError(502, "gone", type="server_error")
        return []


def test_an_error_in_the_middle_loses_nothing() -> None:
    made = PiecesGuard(Broken(), SMALL)
    text = "One sentence here. Two sentences here. Three sentences here. "
    with pytest.raises(ApiError):
        made.feed(text)
    assert made.held() == text
    assert made.feed("") + made.end() == text


def chat_app(root: Path, *shields: Service, server: tuple[str, ...] = ("words",)) -> App:
    needs = tuple(f"safety/{name}" for name in server)
    parrot = replace(PARROT, needs=(*PARROT.needs, *needs))
    return App(small_manifest((*shields, parrot, LETTERS, SHELF, HELPER)), root)


def say(ask: Ask, text: str, **more: Any) -> Any:
    return ask(
        "POST", "/v1/chat/completions", {"model": PARROT.name, "messages": [{"role": "user", "content": text}], **more}
    )


def test_a_shield_that_judges_blocks_redacts_and_streams(tmp_path: Path) -> None:
    ask = functools.partial(asked, chat_app(tmp_path, words(every=40)))
    assert say(ask, "all is well").json["choices"][0]["message"]["content"] == "all is well"
    refused = say(ask, "this is bad").json["choices"][0]
    assert (refused["finish_reason"], refused["message"]["refusal"]) == ("content_filter", "It is bad.")
    events = say(ask, "all is well " * 8, stream=True).events
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in events) == ("all is well " * 8).strip()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("config", [{}, {"missing": True}])
def test_a_shield_that_cannot_look_fails_closed(config: dict[str, Any], stream: bool, tmp_path: Path) -> None:
    ask = functools.partial(asked, chat_app(tmp_path, words(**config)))
    answer = say(ask, "break it", stream=stream)
    assert (answer.status, answer.error["code"]) == (503, "shield_unavailable")
    assert "shield 'words' could not look" in answer.error["message"]
    assert answer.headers.get("retry-after") == (None if config else "7")


@pytest.mark.parametrize("config", [{}, {"missing": True}])
def test_a_shield_may_fail_open(config: dict[str, Any], tmp_path: Path) -> None:
    ask = functools.partial(asked, chat_app(tmp_path, words(fail="open", every=40, **config)))
    assert say(ask, "break it").json["choices"][0]["message"]["content"] == "break it"
    events = say(ask, "break it", stream=True).events
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in events) == "break it"
    if not config:  # the texts that it can look at are looked at
        assert say(ask, "bad").json["choices"][0]["finish_reason"] == "content_filter"
    assert ask("POST", "/v1/moderations", {"input": "break"}).status in (502, 503)  # who asks it gets its own word


def test_a_stream_goes_on_behind_a_shield_that_failed_open(tmp_path: Path) -> None:
    services = Services(small_manifest([words(fail="open", every=40)]), tmp_path)
    (shield,) = safety.looking(services, ["words"]).shields
    made = shield.guard("output", Context())
    said = "".join(
        map(made.feed, ["A first sentence of it. ", "Here things break, alas. ", "Then all is well. ", "This is bad."])
    )
    said += made.end()
    assert said == "A first sentence of it. Here things break, alas. Then all is well. "
    assert made.blocked is not None and made.blocked.category == "bad"


def test_a_fault_of_a_shield_is_no_verdict_and_stands_in_the_log(tmp_path: Path) -> None:
    lines: list[str] = []
    parrot = replace(PARROT, needs=("safety/words",))
    app = App(small_manifest([words(), parrot]), tmp_path, lambda name: JsonWatch(name, lines.append))
    answer = say(functools.partial(asked, app), "a fault")
    assert (answer.status, answer.error["code"]) == (503, "shield_unavailable")
    assert "nobody expected this" not in answer.error["message"]
    assert "nobody expected this" in lines[-1] and "lsbuild.shield.not_looked_at" in lines[-1]


def test_the_requests_own_end_is_no_failure_of_the_shield(tmp_path: Path) -> None:
    services = Services(small_manifest([words(fail="open")]), tmp_path)
    look = safety.looking(services, ["words"])
    with pytest.raises(ApiError, match="deadline"):
        look.look("x", "input", Context(deadline=0.0))
    context = Context()
    context.cancel.set()
    with pytest.raises(Cancelled):
        look.look("x", "input", context)


def test_the_cheapest_is_asked_first_and_the_first_block_ends_it(tmp_path: Path) -> None:
    judge, rules, other = words("judge", 3, word="war"), words("rules", 0), words("other", 0, word="ill")
    services = Services(small_manifest([judge, rules, other]), tmp_path)
    look = safety.looking(services, ["judge", "other", "rules"])
    assert [shield.name for shield in look.shields] == ["other", "rules", "judge"]
    with pytest.raises(Blocked) as caught:
        look.look("bad and war", "input", Context())
    assert caught.value.finding.rule == "rules.bad"
    assert services.get("safety", "judge").judge.seen == []


def test_an_agent_looks_at_what_tools_are_given_and_give(tmp_path: Path) -> None:
    agent = replace(HELPER, needs=(*HELPER.needs, "safety/words"))
    services = Services(small_manifest([words(action="redact"), agent, PARROT, SHELF, LETTERS]), tmp_path)
    look = looking.before(agent, services)
    assert look.look('{"query": "fine"}', "tool_args", Context()) == '{"query": "fine"}'
    assert look.look("something bad", "retrieved", Context()) == "[bad]"
    judge: Words = services.get("safety", "words").judge
    assert [where for _, where in judge.seen] == ["tool_args", "retrieved"]
    assert looking.before(HELPER, services).look("bad", "input", Context()) == "bad"


def test_guardrails_are_names_types_or_all(tmp_path: Path) -> None:
    services = Services(small_manifest([words("a"), words("b")]), tmp_path)
    assert safety.guardrails(services, True, "guardrails") == ("a", "b")
    assert safety.guardrails(services, False, "guardrails") == ()
    assert safety.guardrails(services, ["b", {"type": "a"}, "b"], "guardrails") == ("b", "a")
    for wrong, param in (
        (["a", "nobody"], "guardrails[1]"),
        ([{"type": 1}], "guardrails[0]"),
        ([{"name": "a"}], "guardrails[0]"),
    ):
        with pytest.raises(ApiError) as caught:
            safety.guardrails(services, wrong, "guardrails")
        assert (caught.value.status, caught.value.param) == (400, param)
    with pytest.raises(ApiError, match="has no shield"):
        safety.guardrails(Services(small_manifest(), tmp_path), True, "guardrails")


def test_a_guarded_model_is_one_line(tmp_path: Path) -> None:
    app = chat_app(tmp_path, words(), words("more", word="war"))
    services = app.services
    port = services.get("inference", PARROT.name)
    guarded = safety.guarded(port, services, safety.guardrails(services, ["more", "words"], "guardrails"))
    assert [shield.name for shield in guarded.look.shields] == ["more"]  # type: ignore[attr-defined]  # words stands there

    def answer(text: str) -> list[Delta]:
        return list(guarded.chat(Chat([{"role": "user", "content": text}]), Context()))

    assert answer("this is war")[0].refusal == "It is war."
    assert answer("this is bad")[0].refusal == "It is bad."
    assert "".join(delta.text for delta in answer("this is fine")) == "this is fine"
    assert safety.guarded(port, services, ()) is port


def test_scores_are_told(tmp_path: Path) -> None:
    ask = functools.partial(asked, App(small_manifest([words()]), tmp_path))
    fine, wrong = ask("POST", "/v1/moderations", {"input": ["fine", "bad"]}).json["results"]
    assert (fine["category_scores"]["bad"], fine["category_scores"]["violence"], fine["flagged"]) == (
        0.125,
        0.125,
        False,
    )
    assert (wrong["category_scores"]["bad"], wrong["categories"]["violence"], wrong["flagged"]) == (0.9, True, True)
    assert wrong["category_scores"]["hate"] == 0.0
    assert wrong["metadata"]["llama_guard"] == ["S1"]


def test_a_shield_of_its_own_is_opened_when_the_first_text_comes(tmp_path: Path) -> None:
    app = chat_app(tmp_path, words(missing=True))
    assert app.services.get("inference", PARROT.name) is not None
    assert Failsafe(words(fail="open"), app.services).open
