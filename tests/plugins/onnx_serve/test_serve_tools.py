"""Hermes tool calls in streamed text, cut everywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lsbuild_plugins.onnx.serve.forms import HERMES
from lsbuild_plugins.onnx.serve.tools import ToolCallParser

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
OTHER = '<tool_call>{"arguments": {"s": "a </tool_call> \\" é"}, "name": "g"}</tool_call>'
F, G = ("f", {"x": 1}), ("g", {"s": 'a </tool_call> " é'})
CASES: tuple[tuple[str, str, list[tuple[str, Any]]], ...] = (
    ("no call at all <b> < tool", "no call at all <b> < tool", []),
    (CALL, "", [F]),
    (f"Let me see.\n{CALL}", "Let me see.", [F]),
    (f"{CALL}\n{OTHER}\n", "", [F, G]),
    (f"{CALL} then more", "then more", [F]),
    (CALL.removesuffix("</tool_call>"), "", [F]),
    ("<tool_call>{not json}</tool_call> after", "<tool_call>{not json}</tool_call> after", []),
    ('a <tool_call>{"name": 3}</tool_call>', 'a <tool_call>{"name": 3}</tool_call>', []),
    ('<tool_call>[1]</tool_call>{"x', '<tool_call>[1]</tool_call>{"x', []),
    ('<tool_call>{"name": "f", "argu', '<tool_call>{"name": "f", "argu', []),
    ('<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>', "", [F]),
    ('<tool_call>{"name": "f", "arguments": "no"}</tool_call>', '<tool_call>{"name": "f", "arguments": "no"}</tool_call>', []),
    (f"<tool_call>oops</tool_call>\n{CALL}", "<tool_call>oops</tool_call>", [F]),
    (f"{CALL}\n<tool_call>oops</tool_call>", "<tool_call>oops</tool_call>", [F]),
    ("ends in white space \n", "ends in white space \n", []),
    ("almost <tool_cal", "almost <tool_cal", []),
)  # fmt: skip


def parse(pieces: list[str]) -> tuple[str, list[tuple[str, Any]], list[str]]:
    parser, shown, calls = ToolCallParser(HERMES), [], []
    for step in [*map(parser.feed, pieces), parser.finish()]:
        shown.append(step[0])
        calls += [(call.name, json.loads(call.arguments)) for call in step[1]]
    return "".join(shown), calls, shown


@pytest.mark.parametrize(("text", "expected", "calls"), CASES)
def test_every_split_gives_the_same(text: str, expected: str, calls: list[tuple[str, Any]]) -> None:
    cuts = [[text[:i], text[i:j], text[j:]] for i in range(len(text) + 1) for j in range(i, len(text) + 1)]
    for cut in [*cuts, list(text)]:
        found, made, shown = parse(cut)
        assert (found, made) == (expected, calls), cut
        if "<tool_call>" not in expected:
            assert "<tool_c" not in "".join(shown[:-1])


def test_a_call_comes_with_its_last_character_and_has_an_id() -> None:
    parser = ToolCallParser(HERMES)
    assert parser.feed(CALL[:-1]) == ("", ())
    text, (call,) = parser.feed(CALL[-1])
    assert text == ""
    assert call.id.startswith("call_") and len(call.id) == 29
    assert call.arguments == '{"x": 1}'


def test_ids_differ() -> None:
    parser = ToolCallParser(HERMES)
    _, calls = parser.feed(CALL + CALL)
    assert len({call.id for call in calls}) == 2


def test_text_is_not_delayed_more_than_a_marker_could_need() -> None:
    parser = ToolCallParser(HERMES)
    assert parser.feed("a < b <to")[0] == "a < b"
    assert parser.feed("p")[0] == " <top"
