"""Tool calls of every form in streamed text, cut everywhere."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsbuild_plugins.onnx.serve import forms
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
    (
        '<tool_call>{"name": "f", "arguments": "no"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "no"}</tool_call>',
        [],
    ),
    (f"<tool_call>oops</tool_call>\n{CALL}", "<tool_call>oops</tool_call>", [F]),
    (f"{CALL}\n<tool_call>oops</tool_call>", "<tool_call>oops</tool_call>", [F]),
    ("ends in white space \n", "ends in white space \n", []),
    ("almost <tool_cal", "almost <tool_cal", []),
)


CODER = forms.ToolForm(
    family="qwen3-coder",
    shape="pairs",
    open="<tool_call>\n<function=",
    middle=">",
    key_open="\n<parameter=",
    key_close=">\n",
    value_close="\n</parameter>",
    close="\n</function>\n</tool_call>",
    join="\n",
)
GEMMA = forms.ToolForm(
    family="gemma",
    shape="pairs",
    open="<call>call:",
    middle="{",
    key_close=":",
    pair_join=",",
    quote="<esc>",
    close="}</call>",
)
DEEPSEEK = forms.ToolForm(
    family="deepseek",
    shape="named",
    begin="<calls>",
    open="<call>function<sep>",
    middle="\n```json\n",
    close="\n```</call>",
    join="\n",
    end="</calls>",
)
ARGS = forms.ToolForm(family="mistral", shape="named", open="[TOOL_CALLS]", middle="[ARGS]")
TWO_CALLS = """<tool_call>
<function=g>
<parameter=s>
1
2
</parameter>
<parameter=o>
{"a": 1}
</parameter>
</function>
</tool_call>
<tool_call>
<function=f>
</function>
</tool_call>"""
TYPES = {"x": {"type": "integer"}, "s": {"type": "string"}}
TOOLS = [{"function": {"name": name, "parameters": {"properties": TYPES}}} for name in ("f", "g")]
FAMILIES: tuple[tuple[forms.ToolForm, str, str, list[tuple[str, Any]]], ...] = (
    (
        forms.MISTRAL,
        'So [TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}] ok',
        "Sook",
        [F, ("g", {})],
    ),
    (forms.MISTRAL, '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}, {"na', ', {"na', [F]),
    (forms.MISTRAL, "[TOOL_CALLS] nothing", "[TOOL_CALLS] nothing", []),
    (forms.PHI, '<|tool_call|>[{"name":"f","arguments":{"x":1}}]<|/tool_call|>', "", [F]),
    (forms.GRANITE, '<|tool_call|>[{"name": "f", "arguments": {"x": 1}}]', "", [F]),
    (forms.GRANITE, 'a <|tool_call|>["f"] b', 'a <|tool_call|>["f"] b', []),
    (forms.LLAMA, '{"name": "f", "parameters": {"x": 1}}; {"name": "g", "parameters": {}}', "", [F, ("g", {})]),
    (forms.LLAMA, '<|python_tag|>{"name": "f", "parameters": {"x": 1}}', "", [F]),
    (forms.LLAMA, '{"name": "Ann", "parameters": {}} is a person', '{"name": "Ann", "parameters": {}} is a person', []),
    (forms.LLAMA, 'text {"name": "f", "parameters": {}}', 'text {"name": "f", "parameters": {}}', []),
    (forms.LLAMA, '{"name": "f", "parame', '{"name": "f", "parame', []),
    (
        forms.PYTHONIC,
        "[f(x=1), g(s='a )] \\' \"', y=[True, null])]",
        "",
        [F, ("g", {"s": "a )] ' \"", "y": [True, None]})],
    ),
    (forms.PYTHONIC, "[1, 2] is a list", "[1, 2] is a list", []),
    (forms.PYTHONIC, "[f(open('x'))]", "[f(open('x'))]", []),
    (forms.PYTHONIC, "[f(1)] [f(x=1)]", "[f(1)] [f(x=1)]", []),
    (CODER, "t\n<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call>", "t", [F]),
    (
        CODER,
        TWO_CALLS,
        "",
        [("g", {"s": "1\n2", "o": {"a": 1}}), ("f", {})],
    ),
    (CODER, "<tool_call>\n<function=f>\n<parameter=x>\n1", "<tool_call>\n<function=f>\n<parameter=x>\n1", []),
    (GEMMA, "<call>call:f{x:1}</call>", "", [F]),
    (
        GEMMA,
        "<call>call:g{s:<esc>}</call>,<esc>,o:{k:[1,<esc>z<esc>]}}</call>!",
        "!",
        [("g", {"s": "}</call>,", "o": {"k": [1, "z"]}})],
    ),
    (GEMMA, "<call>call:g{s}</call>", "<call>call:g{s}</call>", []),
    (
        DEEPSEEK,
        '<calls><call>function<sep>f\n```json\n{"x": 1}\n```</call>\n<call>function<sep>g\n```json\n{}\n```</call></calls>',
        "",
        [F, ("g", {})],
    ),
    (
        ARGS,
        '[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g[ARGS]{"s": "[TOOL_CALLS]"}',
        "",
        [F, ("g", {"s": "[TOOL_CALLS]"})],
    ),
    (ARGS, '[TOOL_CALLS]f{"x": 1}', '[TOOL_CALLS]f{"x": 1}', []),
)


def parse(pieces: list[str], form: forms.ToolForm = HERMES) -> tuple[str, list[tuple[str, Any]], list[str]]:
    parser, shown, calls = ToolCallParser(form, TOOLS), [], []
    for step in [*map(parser.feed, pieces), parser.finish()]:
        shown.append(step[0])
        calls += [(call.name, json.loads(call.arguments)) for call in step[1]]
    return "".join(shown), calls, shown


def cuts(text: str) -> list[list[str]]:
    return [[text[:i], text[i:j], text[j:]] for i in range(len(text) + 1) for j in range(i, len(text) + 1)] + [
        list(text)
    ]


@pytest.mark.parametrize(("text", "expected", "calls"), CASES)
def test_every_split_gives_the_same(text: str, expected: str, calls: list[tuple[str, Any]]) -> None:
    for cut in cuts(text):
        found, made, shown = parse(cut)
        assert (found, made) == (expected, calls), cut
        if "<tool_call>" not in expected:
            assert "<tool_c" not in "".join(shown[:-1])


@pytest.mark.parametrize(("form", "text", "expected", "calls"), FAMILIES)
def test_every_form_reads_the_same_at_every_split(
    form: forms.ToolForm, text: str, expected: str, calls: list[tuple[str, Any]]
) -> None:
    short = [[text[:i], text[i : i + size], text[i + size :]] for i in range(len(text) + 1) for size in (0, 1, 2, 9)]
    for cut in [*short, list(text)]:
        found, made, _ = parse(cut, form)
        assert (found, made) == (expected, calls), cut


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ("<tool_call>", "</tool_call>", '{"name": "f"', ', "arguments": {}', "}", '"', "\\", " ", "\n", "[", "x")
        ),
        max_size=14,
    ),
    st.data(),
)
def test_any_text_reads_the_same_at_any_split(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    for form in (HERMES, forms.LLAMA, forms.PYTHONIC, CODER):
        whole = parse([text], form)[:2]
        places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
        pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
        assert parse(pieces, form)[:2] == whole


def test_nothing_is_lost_when_there_is_no_call() -> None:
    for form in (HERMES, forms.MISTRAL, forms.LLAMA, forms.PYTHONIC, CODER, GEMMA, DEEPSEEK, ARGS):
        text = f" a \n{form.opener} [1] {{ }} \n "
        assert parse([text], form)[:2] == (text, [])


CUT = (
    (HERMES, '<tool_call>\n{"name": "f", "arguments": {"x": 1, "y": "ab', [("f", '{"x": 1, "y": "ab')]),
    (HERMES, '<tool_call>\n{"name": "f", "argu', [("f", "")]),
    (HERMES, '<tool_call>\n{"name": "f', []),
    (HERMES, "<tool_call>", []),
    (HERMES, '<tool_call>\n{"name": "f", "arguments": {"x": 1}}', [("f", '{"x": 1}')]),
    (
        HERMES,
        '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n<tool_call>\n{"name": "g", "arguments": {"s": "',
        [("f", "{}"), ("g", '{"s": "')],
    ),
    (
        forms.MISTRAL,
        '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}, {"name": "g", "ar',
        [("f", '{"x": 1}'), ("g", "")],
    ),
    (forms.LLAMA, '{"name": "f", "parameters": {"x": 1, ', [("f", '{"x": 1, ')]),
    (forms.PYTHONIC, "[g(s='a', y=[1, 2", [("g", '{"s": "a"')]),
    (forms.PYTHONIC, "[g(", [("g", "")]),
    (CODER, "<tool_call>\n<function=g>\n<parameter=s>\n1\n</parameter>\n<parameter=o>\n{", [("g", '{"s": "1"')]),
    (CODER, "<tool_call>\n<function=g>\n<para", [("g", "")]),
    (GEMMA, "<call>call:g{s:<esc>a<esc>,o:{k:", [("g", '{"s": "a"')]),
    (DEEPSEEK, '<calls><call>function<sep>f\n```json\n{"x": 1', [("f", '{"x": 1')]),
    (ARGS, '[TOOL_CALLS]f[ARGS]{"x": ', [("f", '{"x": ')]),
)


@pytest.mark.parametrize(("form", "text", "expected"), CUT)
def test_a_call_that_the_limit_cuts_is_a_call_and_never_text(
    form: forms.ToolForm, text: str, expected: list[tuple[str, str]]
) -> None:
    for pieces in ([text], list(text)):
        parser, shown, made = ToolCallParser(form, TOOLS), "", []
        for said, calls in [*map(parser.feed, pieces), parser.cut()]:
            shown += said
            made += [(call.name, call.arguments) for call in calls]
        assert (shown, made) == ("", expected)


@pytest.mark.parametrize(
    ("form", "text"),
    [(HERMES, "It is 3 <"), (forms.LLAMA, '{"name": "Ann", "age'), (forms.PYTHONIC, "[1, 2"), (HERMES, "")],
)
def test_what_is_no_call_stays_text_where_the_limit_cuts_it(form: forms.ToolForm, text: str) -> None:
    parser = ToolCallParser(form, TOOLS)
    (said, _), (rest, calls) = parser.feed(text), parser.cut()
    assert (said + rest, calls) == (text, ())


@pytest.mark.parametrize(("form", "text"), [(HERMES, "<tool_c"), (forms.LLAMA, '{"na'), (forms.PYTHONIC, "[f")])
def test_what_had_to_be_a_call_is_no_text(form: forms.ToolForm, text: str) -> None:
    parser = ToolCallParser(form, TOOLS, must=True)
    assert (parser.feed(text), parser.cut()) == (("", ()), ("", ()))


def test_short_ids_where_a_template_wants_them() -> None:
    parser = ToolCallParser(forms.MISTRAL)
    _, (call,) = parser.feed('[TOOL_CALLS][{"name": "f", "arguments": {}}]')
    assert len(call.id) == 9 and call.id.isalnum()


def test_a_long_call_is_read_once() -> None:
    parser, text = ToolCallParser(HERMES), "x" * 20_000
    steps = 0

    def count(frame: Any, event: str, _: Any) -> Any:
        nonlocal steps
        steps += 1
        return None

    sys.setprofile(count)
    try:
        for piece in (
            '<tool_call>{"name": "f", "arguments": {"x": "',
            *(text[n : n + 4] for n in range(0, len(text), 4)),
            '"}}</tool_call>',
        ):
            parser.feed(piece)
    finally:
        sys.setprofile(None)
    assert steps < 40 * len(text) / 4


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
