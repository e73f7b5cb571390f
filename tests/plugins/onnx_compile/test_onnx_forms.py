"""The form of a family's tool calls is found in its template, and what it writes is read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from lsbuild_plugins.onnx.compile.template import prove
from lsbuild_plugins.onnx.serve import forms
from lsbuild_plugins.onnx.serve.chat import template_messages
from lsbuild_plugins.onnx.serve.forms import ToolForm
from lsbuild_plugins.onnx.serve.template import ChatTemplate
from lsbuild_plugins.onnx.serve.tools import ToolCallParser
from tool_families import FAMILIES, TAUGHT

EXPECTED: Mapping[str, ToolForm] = {
    "hermes": forms.HERMES,
    "qwen3": forms.HERMES,
    "llama3": ToolForm(family="llama3-json", arguments_key="parameters", parallel=False),
    "llama3-python_tag": ToolForm(
        family="llama3-json", open="<|python_tag|>", arguments_key="parameters", parallel=False
    ),
    "pythonic": forms.PYTHONIC,
    "mistral": ToolForm(family="mistral", begin="[TOOL_CALLS] [", join=", ", end="]", short_ids=True),
    "mistral-v11": ToolForm(family="mistral", shape="named", open="[TOOL_CALLS]", middle="[ARGS]"),
    "qwen3-coder": ToolForm(
        family="qwen3-coder",
        shape="pairs",
        open="<tool_call>\n<function=",
        middle=">",
        key_open="\n<parameter=",
        key_close=">\n",
        value_close="\n</parameter>",
        close="\n</function>\n</tool_call>",
        join="\n",
    ),
    "glm": ToolForm(
        family="glm",
        shape="pairs",
        open="<tool_call>",
        key_open="\n<arg_key>",
        key_close="</arg_key>\n<arg_value>",
        value_close="</arg_value>",
        close="\n</tool_call>",
        join="\n",
    ),
    "granite": forms.GRANITE,
    "gemma-function": ToolForm(
        family="gemma",
        shape="pairs",
        open="<start_function_call>call:",
        middle="{",
        key_close=":",
        pair_join=",",
        quote="<escape>",
        close="}<end_function_call>",
    ),
    "gemma-tool_code": ToolForm(family="gemma", shape="python", begin="```tool_code", open="\n", end="\n```"),
    "deepseek": ToolForm(
        family="deepseek",
        shape="named",
        begin="<｜tool▁calls▁begin｜>",
        open="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        middle="\n```json\n",
        close="\n```<｜tool▁call▁end｜>",
        join="\n",
        end="<｜tool▁calls▁end｜>",
        text_arguments=True,
    ),
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"properties": {"place": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
ARGUMENTS = {"place": 'Zürich "Nord" (7)', "days": 3}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_form_is_found_by_rendering(family: str) -> None:
    found = prove(FAMILIES[family], "<s>", "</s>", family).found
    assert found.tools == EXPECTED[family]
    assert found.how.endswith("as the template writes calls")


@pytest.mark.parametrize(
    ("family", "specials", "form", "how"),
    [
        ("granite-silent", (), forms.GRANITE, "as <|tool_call|> suggests"),
        ("phi", ("<|tool_call|>", "<|/tool_call|>"), forms.PHI, "as <|/tool_call|> suggests"),
        ("unknown", (), forms.HERMES, "assumed"),
    ],
)
def test_a_template_that_never_writes_a_call_is_guessed_from_its_words(
    family: str, specials: tuple[str, ...], form: ToolForm, how: str
) -> None:
    found = prove(TAUGHT[family], "<s>", "</s>", family, specials).found
    assert found.tools == form
    assert how in found.how


def test_a_template_without_tools_has_no_form() -> None:
    found = prove("{% for m in messages %}{{ m.content }}{% endfor %}", "", "", "m").found
    assert (found.tools, found.reasoning, found.how) == (None, None, "none")


@pytest.mark.parametrize("family", ["qwen3", "deepseek", "glm"])
def test_reasoning_marks_are_found(family: str) -> None:
    assert prove(FAMILIES[family], "<s>", "</s>", family).found.reasoning == forms.THINK


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversation_with_our_own_calls_renders_and_reads_back(family: str) -> None:
    """What the parser made of a call goes into the history, the template writes it, and the parser reads it again."""
    template, form = ChatTemplate(FAMILIES[family]), EXPECTED[family]
    (call,) = _read(form, _written(template, form, {"id": "call_0001", "type": "function"}))
    again: dict[str, Any] = {"id": call.id, "type": "function"}
    text = _written(template, form, again, after=True)
    assert "sunny" in text
    assert [(each.name, each.arguments) for each in _read(form, text)] == [(call.name, call.arguments)]


def _written(template: ChatTemplate, form: ToolForm, call: dict[str, Any], *, after: bool = False) -> str:
    function = {"name": "get_weather", "arguments": json.dumps(ARGUMENTS, ensure_ascii=False)}
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [{**call, "function": function}]},
    ]
    if after:
        result = {"role": "tool", "name": "get_weather", "tool_call_id": call["id"], "content": "sunny"}
        history += [result, {"role": "user", "content": "and then?"}]
    messages = template_messages(history, lambda text: text, text_arguments=form.text_arguments)
    tools = [] if form.opener else [TOOL]
    text = template.render(messages, tools, bos_token="<s>", eos_token="</s>", add_generation_prompt=after)
    # An answer is a call by its first character where there is no marker, and ends where the turn does.
    return (
        text
        if form.opener
        else text[text.rindex(form.begin + ("get_weather(" if form.begin else '{"name": "get_wea')) :]
    )


def _read(form: ToolForm, text: str) -> list[Any]:
    parser = ToolCallParser(form, [TOOL])
    found = [*parser.feed(text)[1], *parser.finish()[1]]
    assert [json.loads(call.arguments) for call in found] == [ARGUMENTS]
    return found
