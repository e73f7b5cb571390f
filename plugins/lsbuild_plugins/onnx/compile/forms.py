"""Finds out how a chat template writes tool calls and reasoning, by rendering conversations that differ in one thing.

The method is that of llama.cpp's automatic parser: names and values that occur nowhere else are rendered, and what stands
around them is the form. What was found is proved: the parser that will ship has to read the calls back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os.path import commonprefix
from typing import Any, Protocol

from msgspec.structs import replace

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


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    arguments: Mapping[str, Any]

    def message(self, number: str, *, as_text: bool) -> dict[str, Any]:
        given = json.dumps(self.arguments) if as_text else dict(self.arguments)
        return {"id": number, "type": "function", "function": {"name": self.name, "arguments": given}}


_ONE = _Call("zqcallone", {"zqka": "zqva", "zqkb": 48151})
_TWO = _Call("zqcalltwo", {"zqkc": "zqvc", "zqkd": 62342})
_TEXT, _THOUGHT = "zqtext", "zqthought"
_ASK: Message = {"role": "user", "content": "zqask"}


def _tool(call: _Call) -> Message:
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
    start = max(map(len, shared)) if shared else len(commonprefix((whole, header)))
    region = whole[start : len(whole) - len(commonprefix((whole[::-1], end[::-1])))]
    # What the template also puts behind plain words is no part of a call.
    behind = re.split(r"[<\[{`]", commonprefix((region, end)))[0]
    return region.removeprefix(behind)


def _form(first: str, both: str | None) -> ToolForm | None:
    """The first shape that explains what was rendered and reads it back."""
    for shape in (_object, _named, _pairs):
        form = shape(first, both)
        if form is not None and _reads(form, first, (_ONE,)) and (both is None or _reads(form, both, (_ONE, _TWO))):
            return form
    return None


def _reads(form: ToolForm, text: str, expected: Sequence[_Call]) -> bool:
    parser = ToolCallParser(form, _TOOLS)
    (_, found), (_, late) = parser.feed(text), parser.finish()
    return [(call.name, json.loads(call.arguments)) for call in found + late] == [
        (call.name, dict(call.arguments)) for call in expected
    ]


@dataclass(frozen=True, slots=True)
class _Unit:
    """Where one call stands in a text."""

    start: int
    stop: int


def _framed(
    form: ToolForm, first: str, unit: _Unit, both: str | None, units: Sequence[_Unit | None]
) -> ToolForm | None:
    """``form`` with what stands before, between and after calls.

    One call shows ``begin open CALL close end``, two show ``close join open`` between them: what both have in common
    belongs to a call, the rest to the list of calls.
    """
    before, after = first[: unit.start], first[unit.stop :]
    if both is None or None in units:
        return replace(form, open=before, close=after, parallel=False)
    between = both[units[0].stop : units[1].start]  # type: ignore[union-attr]
    opening = commonprefix((before[::-1], between[::-1]))[::-1]
    close = commonprefix((after, between[: len(between) - len(opening)]))
    return replace(
        form,
        begin=before.removesuffix(opening) if opening else before,
        open=opening,
        close=close,
        join=between[len(close) : len(between) - len(opening)],
        end=after[len(close) :],
    )


def _object(first: str, both: str | None) -> ToolForm | None:
    found = _json(first, _ONE)
    if found is None:
        return None
    unit, value = found
    body = first[unit.start : unit.stop]
    names = [key for key, each in value.items() if each == _ONE.name]
    arguments = [key for key, each in value.items() if each == _ONE.arguments]
    colon = body.partition(f'"{names[0]}"')[2].partition(f'"{_ONE.name}"')[0]
    comma = ", " if ', "' in body else ","
    form = ToolForm(family="", name_key=names[0], arguments_key=arguments[0], comma=comma, colon=colon)
    two = [(_json(both or "", call) or (None,))[0] for call in (_ONE, _TWO)]
    return _framed(form, first, unit, both, two)


def _json(text: str, call: _Call) -> tuple[_Unit, dict[str, Any]] | None:
    """The JSON object in ``text`` that has the call's name and arguments as values."""
    for start, stop, value in _objects(text):
        if call.name in value.values() and call.arguments in value.values():
            return _Unit(start, stop), value
    return None


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    decoder = json.JSONDecoder()
    for start, char in enumerate(text):
        if char == "{":
            try:
                value, stop = decoder.raw_decode(text, start)
            except ValueError:
                continue
            yield start, stop, value


def _named(first: str, both: str | None) -> ToolForm | None:
    """NAME, a fixed text, and the arguments as a JSON object."""

    def unit(text: str, call: _Call) -> tuple[_Unit, str] | None:
        for start, stop, value in _objects(text):
            name = text.rfind(call.name, 0, start)
            if value == call.arguments and name >= 0:
                return _Unit(name, stop), text[name + len(call.name) : start]
        return None

    found = unit(first, _ONE)
    if found is None:
        return None
    form = ToolForm(family="", shape="named", middle=found[1])
    return _framed(form, first, found[0], both, [(unit(both or "", call) or (None,))[0] for call in (_ONE, _TWO)])


def _pairs(first: str, both: str | None) -> ToolForm | None:
    """NAME and each argument by itself: as Python writes them, between tags, or with quotes of the model's own."""
    places = _places(first, _ONE)
    if places is None:
        return None
    name, key, value, next_key, next_value = places
    lead, string_gap = first[name.stop : key.start], first[key.stop : value.start]
    gap, number_gap = first[value.stop : next_key.start], first[next_key.stop : next_value.start]
    rest = first[next_value.stop :]
    if not string_gap.startswith(number_gap):
        return None
    quote = string_gap[len(number_gap) :]
    if number_gap == "=" and lead == "(" and quote in ('"', "'") and rest.startswith(")"):
        units = [_unit(both or "", call, ")") for call in (_ONE, _TWO)]
        form = ToolForm(family="", shape="python")
        return _framed(form, first, _Unit(name.start, next_value.stop + 1), both, units)
    if not gap.startswith(quote):
        return None
    if quote:
        form = ToolForm(
            family="", shape="pairs", middle=lead, key_close=number_gap, pair_join=gap[len(quote) :], quote=quote
        )
        units = [_unit(both or "", call, "") for call in (_ONE, _TWO)]
        return _framed(form, first, _Unit(name.start, next_value.stop), both, units)
    opening = commonprefix((lead[::-1], gap[::-1]))[::-1]
    if lead.startswith(">") and opening == lead and gap[: len(gap) - len(opening)].count("<") > 0:
        opening = opening[1:]  # the bracket that ends the tag of the name, and of a value
    closing = commonprefix((gap[: len(gap) - len(opening)], rest))
    form = ToolForm(
        family="",
        shape="pairs",
        middle=lead[: len(lead) - len(opening)],
        key_open=opening,
        key_close=number_gap,
        value_close=closing,
        pair_join=gap[len(closing) : len(gap) - len(opening)],
    )
    if not closing.strip() or not number_gap.strip():
        return None
    units = [_unit(both or "", call, closing) for call in (_ONE, _TWO)]
    return _framed(form, first, _Unit(name.start, next_value.stop + len(closing)), both, units)


def _places(text: str, call: _Call) -> list[_Unit] | None:
    """Where the name, and each key and value, stand; None unless in this order."""
    words = [call.name, *(str(word) for pair in call.arguments.items() for word in pair)]
    places, at = [], 0
    for word in words:
        start = text.find(word, at)
        if start < 0:
            return None
        at = start + len(word)
        places.append(_Unit(start, at))
    return places


def _unit(text: str, call: _Call, ending: str) -> _Unit | None:
    places = _places(text, call)
    return _Unit(places[0].start, places[-1].stop + len(ending)) if places else None


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
        opening = header[len(commonprefix((header, prompt))) :].strip()
        close = rest.partition(_TEXT)[0].strip()
        known = next(
            (marks for marks in _THOUGHTS if header.rstrip().endswith(marks.open) and close == marks.close), None
        )
        if known or (opening and close):
            return known or Reasoning(opening, close)
    return next((marks for marks in _THOUGHTS if marks.close in source), None)
