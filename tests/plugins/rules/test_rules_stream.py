"""A guard gives what a check of the whole text gives, at any split, and never lets go what it has not looked at."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_shields import GENERAL, compiled, general, shipped, streamed

from lsbuild_plugins.rules.serve.shield import Shield
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.safety import Where

EXAMPLES = [text for pack in shipped(*GENERAL) for rule in pack.rules for text in (*rule.matches, *rule.passes)]
PIECES = st.one_of(
    st.sampled_from(EXAMPLES),
    st.text(max_size=12),
    st.text(alphabet="fuck k1l\u200b\u0301+@.4-eyJ[]\ud800ﬁ\n", max_size=30),
    st.sampled_from(["ghp_0123456789abcdefghij", "eyJhbGciOiJIUzI1Ni", "AAAA", "4111 1111", " 1111 1111", "a@b.co"]),
)
TEXTS = st.lists(PIECES, max_size=6).map(lambda pieces: " ".join(pieces)) | st.lists(PIECES, max_size=6).map("".join)
PLACES: tuple[Where, ...] = ("input", "output")


def cut(text: str, places: list[int]) -> list[str]:
    marks = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from(PLACES))
def test_any_split_gives_what_the_whole_gives(text: str, places: list[int], where: Where) -> None:
    assert streamed(general(), cut(text, places), where) == general().check(text, where, Context())


@pytest.mark.parametrize("where", PLACES)
def test_every_split_in_two_of_every_example(where: Where) -> None:
    for text in EXAMPLES:
        text = f"Say: {text} End."
        whole = general().check(text, where, Context())
        assert streamed(general(), list(text), where) == whole
        for place in range(len(text)):
            assert streamed(general(), [text[:place], text[place:]], where) == whole


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_what_is_released_is_what_no_finding_covers(text: str) -> None:
    verdict = general().check(text, "output", Context())
    end = verdict.blocked.start if verdict.blocked else len(text)
    redacted = [found for found in verdict.findings if found.action == "redact"]
    covered = {place for found in redacted for place in range(found.start, found.end)}
    kept = [character for place, character in enumerate(text[:end]) if place not in covered]
    labels = {f"[{rule.label or rule.id}]" for pack in shipped(*GENERAL) for rule in pack.rules}
    if not any(label in text for label in labels):
        rest = re.sub("|".join(map(re.escape, sorted(labels))), "", verdict.text)
        assert rest == "".join(kept)
        assert (rest != verdict.text) == bool(redacted)


def test_no_character_of_a_match_is_sent_before_the_block() -> None:
    text = "The answer is simple. I will kill you."
    sent = ""
    guard = general().guard("output", Context())
    for character in text:
        sent += guard.feed(character)
        assert text.startswith(sent)
        assert "I" not in sent
    sent += guard.end()
    assert sent == "The answer is simple. "
    assert guard.blocked is not None
    assert text[guard.blocked.start : guard.blocked.end] == "I will kill you"
    assert (guard.feed("more"), guard.end()) == ("", "")


def test_the_lag_is_the_window() -> None:
    window = general().window("output")
    guard = general().guard("output", Context())
    text = "The pump needs new oil every spring. " * 100
    sent = 0
    for number in range(0, len(text), 7):
        sent += len(guard.feed(text[number : number + 7]))
        assert min(number + 7, len(text)) - sent <= window
    assert sent + len(guard.end()) == len(text)


def test_a_long_token_is_redacted_to_its_end_though_the_window_is_short() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9." + "a-_9" * 5000
    text = f"Bearer {token} is the token"
    for size in (1, 3, 64, 5000):
        pieces = [text[place : place + size] for place in range(0, len(text), size)]
        verdict = streamed(general(), pieces, "output")
        assert verdict.text == "Bearer [jwt] is the token"
        assert [text[found.start : found.end] for found in verdict.findings] == [token]


def test_what_the_guard_keeps_does_not_grow_with_the_stream() -> None:
    guard = general().guard("output", Context())
    for _ in range(2000):
        guard.feed("The pump needs oil, приве́т. ")
    kept = guard._view.end - guard._view._first
    assert kept <= 2 * general().window("output") + 100
    assert len(guard._held) <= kept


def test_a_deadline_ends_a_stream() -> None:
    guard = general().guard("output", Context(deadline=0.0))
    with pytest.raises(ApiError, match="deadline"):
        guard.feed("mail a@example.org " * 50)


def test_a_ligature_of_which_a_part_matches_is_redacted_whole(tmp_path: Path) -> None:
    rules = compiled(
        "pack: p\n"
        "categories: {c: {action: redact, where: [output], message: m}}\n"
        "rules: [{id: r, category: c, pattern: 'xf', matches: [xf], passes: [x]}]\n",
        tmp_path,
    )
    for pieces in (["axﬁz"], ["ax", "ﬁz"], ["axﬁ", "z"]):
        verdict = streamed(Shield(rules), pieces, "output")
        assert verdict.text == "a[r]z"
        assert (verdict.findings[0].start, verdict.findings[0].end) == (1, 3)


def test_marks_after_a_match_go_with_it() -> None:
    for pieces in (["a@example.org\u0301\u200b!"], list("a@example.org\u0301\u200b!")):
        assert re.fullmatch(r"\[email\]!", streamed(general(), pieces, "output").text)
