"""Finds out how a chat template writes tool calls and reasoning, by rendering conversations that differ in one thing.

The method is that of llama.cpp's automatic parser: names and values that occur nowhere else are rendered, and what stands
around them is the form. What was found is proved: the parser that will ship has to read the calls back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from msgspec.structs import replace

from lsbuild_plugins.onnx.compile.shapes import SHAPES, Call, common, common_end
from lsbuild_plugins.onnx.serve import forms
from lsbuild_plugins.onnx.serve.forms import Reasoning, ToolForm
from lsbuild_plugins.onnx.serve.tools import ToolCallParser

Message = Mapping[str, Any]


class Render(Protocol):
    """A template with its tokens; None when it refuses."""

    def __call__(self, messages: Sequence[Message], tools: Sequence[Message], *, prompt: bool) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, and how, for the report."""

    tools: ToolForm | None
    reasoning: Reasoning | None
    how: str


_ONE = Call("zqcallone", {"zqka": "zqva", "zqkb": 48151})
_TWO = Call("zqcalltwo", {"zqkc": "zqvc", "zqkd": 62342})
_TEXT, _THOUGHT = "zqtext", "zqthought"
_ASK: Message = {"role": "user", "content": "zqask"}


def _tool(call: Call) -> Message:
    kinds = {key: {"type": "string" if isinstance(value, str) else "integer"} for key, value in call.arguments.items()}
    parameters = {"type": "object", "properties": kinds, "required": list(kinds)}
    return {"type": "function", "function": {"name": call.name, "description": "Does it.", "parameters": parameters}}


_TOOLS = (_tool(_ONE), _tool(_TWO))
_KNOWN: Mapping[str, ToolForm] = {
    "<|/tool_call|>": forms.PHI,
    "<|tool_call|>": forms.GRANITE,
    "[TOOL_CALLS]": forms.MISTRAL,
    "<tool_call>": forms.HERMES,
    '"parameters": dictionary': forms.LLAMA,
    "[func_name1(": forms.PYTHONIC,
}
"""What templates say, or vocabularies hold, when they teach a form and never write a call back; the first one counts."""
_THOUGHTS = (
    forms.THINK,
    Reasoning("[THINK]", "[/THINK]"),
    Reasoning("<|START_THINKING|>", "<|END_THINKING|>"),
    Reasoning("<seed:think>", "</seed:think>"),
)


def find(source: str, render: Render, specials: Collection[str]) -> Found:
    """The forms of one template; ``specials`` are the texts of the vocabulary's special tokens."""
    reasoning = _reasoning(source, render)
    before = render([_ASK], [], prompt=True)
    taught = render([_ASK], _TOOLS, prompt=True)
    if taught is None or taught == before:
        return Found(None, reasoning, "none")
    if form := _written(render):
        return Found(form, reasoning, f"{form.family}, as the template writes calls")
    for mark, known in _KNOWN.items():
        if mark in taught or mark in specials:
            return Found(known, reasoning, f"{known.family}, as {mark} suggests (the template writes no calls)")
    return Found(forms.HERMES, reasoning, "hermes, assumed: neither the template nor the vocabulary shows a form")


def _written(render: Render) -> ToolForm | None:
    """The form in which the template writes calls back."""
    for as_text in (False, True):
        for ids in (("call_00000001", "call_00000002"), ("zqid00001", "zqid00002")):
            one, two = (call.message(number, as_text=as_text) for call, number in zip((_ONE, _TWO), ids, strict=True))
            region = partial(_region, render)
            first = region([one])
            if first is None:
                continue
            both = region([one, two])
            both = both if both is not None and _TWO.name in both else None
            form = _form(first, both)
            if form is not None:
                short = len(ids[0]) == len("zqid00001")
                return replace(form, family=_family(form), short_ids=short, text_arguments=as_text)
    return None


def _region(render: Render, calls: Sequence[Message]) -> str | None:
    """What the model itself would have written in a turn that calls: without the turn's header and end."""
    turn = {"role": "assistant", "content": "", "tool_calls": list(calls)}
    whole = render([_ASK, turn], _TOOLS, prompt=False)
    said = render([_ASK, {"role": "assistant", "content": _TEXT}], _TOOLS, prompt=False)
    if whole is None or said is None or _TEXT not in said or _ONE.name not in whole:
        return None
    prompt = render([_ASK], _TOOLS, prompt=True) or ""
    header, _, end = said.rpartition(_TEXT)
    shared = [begun for begun in (header, prompt) if begun and whole.startswith(begun)]
    start = max(map(len, shared)) if shared else len(common(whole, header))
    region = whole[start : len(whole) - len(common_end(whole, end))]
    # What the template also puts behind plain words is no part of a call.
    behind = re.split(r"[<\[{`]", common(region, end))[0]
    return region.removeprefix(behind)


def _form(first: str, both: str | None) -> ToolForm | None:
    """The first shape that explains what was rendered and reads it back."""
    for shape in SHAPES:
        form = shape(first, both, (_ONE, _TWO))
        if form is not None and _reads(form, first, (_ONE,)) and (both is None or _reads(form, both, (_ONE, _TWO))):
            return form
    return None


def _reads(form: ToolForm, text: str, expected: Sequence[Call]) -> bool:
    parser = ToolCallParser(form, _TOOLS)
    (_, found), (_, late) = parser.feed(text), parser.finish()
    return [(call.name, json.loads(call.arguments)) for call in found + late] == [
        (call.name, dict(call.arguments)) for call in expected
    ]


def _family(form: ToolForm) -> str:
    """What people call the form."""
    if form.shape == "python":
        return "gemma" if "tool_code" in form.begin else "pythonic"
    if form.shape == "pairs":
        names = {"<function=": "qwen3-coder", "<arg_key>": "glm", "call:": "gemma"}
        return next((name for mark, name in names.items() if mark in form.open + form.key_open), "own")
    if form.opener == "[TOOL_CALLS]":
        return "mistral"
    if "tool▁call" in form.open:
        return "deepseek"
    if form.opener == "<|tool_call|>":
        return "phi" if form.end.strip("]") or form.close else "granite"
    if form.shape == "object":
        return {"<tool_call>": "hermes", "": "llama3-json", "<|python_tag|>": "llama3-json"}.get(form.opener, "own")
    return "own"


def _reasoning(source: str, render: Render) -> Reasoning | None:
    """The marks around a thought: as the template writes one, else the ones it looks for."""
    turn = {"role": "assistant", "content": _TEXT, "reasoning_content": _THOUGHT}
    whole = render([_ASK, turn], [], prompt=False)
    plain = render([_ASK, {"role": "assistant", "content": _TEXT}], [], prompt=False)
    if whole and plain and _THOUGHT in whole and _TEXT in plain:
        header, _, rest = whole.partition(_THOUGHT)
        prompt = render([_ASK], [], prompt=True) or ""
        opening = header[len(common(header, prompt)) :].strip()
        close = rest.partition(_TEXT)[0].strip()
        known = next(
            (marks for marks in _THOUGHTS if header.rstrip().endswith(marks.open) and close == marks.close), None
        )
        if known or (opening and close):
            return known or Reasoning(opening, close)
    return next((marks for marks in _THOUGHTS if marks.close in source), None)
