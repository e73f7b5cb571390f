"""Explains a rendered tool call: which shape of ToolForm it has, and what stands around it; renders nothing itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from lsbuild_plugins.onnx.serve.forms import ToolForm


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose name and values occur nowhere else in a template."""

    name: str
    arguments: Mapping[str, Any]

    def message(self, number: str, *, as_text: bool) -> dict[str, Any]:
        given = json.dumps(self.arguments) if as_text else dict(self.arguments)
        return {"id": number, "type": "function", "function": {"name": self.name, "arguments": given}}


Pair = tuple[Call, Call]


def common(one: str, other: str) -> str:
    """The longest text that both begin with."""
    size = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:size]


def common_end(one: str, other: str) -> str:
    """The longest text that both end with."""
    return common(one[::-1], other[::-1])[::-1]


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
    opening = common_end(before, between)
    close = common(after, between[: len(between) - len(opening)])
    return replace(
        form,
        begin=before.removesuffix(opening) if opening else before,
        open=opening,
        close=close,
        join=between[len(close) : len(between) - len(opening)],
        end=after[len(close) :],
    )


def _object(first: str, both: str | None, calls: Pair) -> ToolForm | None:
    found = _json(first, calls[0])
    if found is None:
        return None
    unit, value = found
    body = first[unit.start : unit.stop]
    names = [key for key, each in value.items() if each == calls[0].name]
    arguments = [key for key, each in value.items() if each == calls[0].arguments]
    colon = body.partition(f'"{names[0]}"')[2].partition(f'"{calls[0].name}"')[0]
    comma = ", " if ', "' in body else ","
    form = ToolForm(family="", name_key=names[0], arguments_key=arguments[0], comma=comma, colon=colon)
    two = [(_json(both or "", call) or (None,))[0] for call in calls]
    return _framed(form, first, unit, both, two)


def _json(text: str, call: Call) -> tuple[_Unit, dict[str, Any]] | None:
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


def _named(first: str, both: str | None, calls: Pair) -> ToolForm | None:
    """NAME, a fixed text, and the arguments as a JSON object."""

    def unit(text: str, call: Call) -> tuple[_Unit, str] | None:
        for start, stop, value in _objects(text):
            name = text.rfind(call.name, 0, start)
            if value == call.arguments and name >= 0:
                return _Unit(name, stop), text[name + len(call.name) : start]
        return None

    found = unit(first, calls[0])
    if found is None:
        return None
    form = ToolForm(family="", shape="named", middle=found[1])
    return _framed(form, first, found[0], both, [(unit(both or "", call) or (None,))[0] for call in calls])


def _pairs(first: str, both: str | None, calls: Pair) -> ToolForm | None:
    """NAME and each argument by itself: as Python writes them, between tags, or with quotes of the model's own."""
    places = _places(first, calls[0])
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
        units = [_unit(both or "", call, ")") for call in calls]
        form = ToolForm(family="", shape="python")
        return _framed(form, first, _Unit(name.start, next_value.stop + 1), both, units)
    if not gap.startswith(quote):
        return None
    if quote:
        form = ToolForm(
            family="", shape="pairs", middle=lead, key_close=number_gap, pair_join=gap[len(quote) :], quote=quote
        )
        units = [_unit(both or "", call, "") for call in calls]
        return _framed(form, first, _Unit(name.start, next_value.stop), both, units)
    opening = common_end(lead, gap)
    if lead.startswith(">") and opening == lead and gap[: len(gap) - len(opening)].count("<") > 0:
        opening = opening[1:]  # the bracket that ends the tag of the name, and of a value
    closing = common(gap[: len(gap) - len(opening)], rest)
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
    units = [_unit(both or "", call, closing) for call in calls]
    return _framed(form, first, _Unit(name.start, next_value.stop + len(closing)), both, units)


def _places(text: str, call: Call) -> list[_Unit] | None:
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


def _unit(text: str, call: Call, ending: str) -> _Unit | None:
    places = _places(text, call)
    return _Unit(places[0].start, places[-1].stop + len(ending)) if places else None


Shape = Callable[[str, str | None, Pair], ToolForm | None]
SHAPES: tuple[Shape, ...] = (_object, _named, _pairs)
"""Each explains a turn with one call and, where the template takes it, one with two; None when it cannot."""
