"""JSON schemas that an answer is held to: checked, and made plain for llguidance; no model, no grammar engine.

``plain`` gives a schema that says the same with the constraining keywords alone: annotations are gone and every
reference points into one ``$defs`` table, so that any part can be compiled by itself. What the engine would not enforce,
or what is too large, is refused with the place where it stands. Its work is bounded by the limits below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any
from urllib.parse import unquote

from lsbuild_runtime.http import ApiError

Schema = dict[str, Any]

DEPTH = 32
"""Levels of schemas inside schemas (OpenAI: 10)."""
SCHEMAS = 5_000
"""Schemas in all, each use of a shared definition counted once."""
DEFINITIONS = 200
"""Different references."""
VALUES = 1_000
"""Values of all enums and constants together."""
CHARACTERS = 120_000
"""Characters of all names, values and patterns together."""
PATTERN = 1_000
"""Characters of one pattern."""
REPEATS = {"minItems": 1_000, "maxItems": 10_000, "minLength": 10_000, "maxLength": 100_000, "minProperties": 1_000}
"""Largest counts, which cost an automaton memory."""

FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"))
_TYPES = frozenset(("null", "boolean", "integer", "number", "string", "array", "object"))
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_MAPS = ("properties", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
_INSIDE = 1e-6
_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f"
_ANNOTATION = object()
_REFUSED = frozenset(
    [
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "propertyNames",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "unevaluatedItems",
        "unevaluatedProperties",
        "additionalItems",
        "$dynamicRef",
        "$recursiveRef",
    ]
)
"""Keywords that say what a value may be and that no grammar of ours enforces. Other unknown ones are annotations."""


def plain(schema: Any, where: str) -> Schema | bool:
    """The schema in its plain form; ApiError 400 whose ``param`` is ``where`` and whose message names the place."""
    return _Reader(schema, where).root()


def refusal(where: str, place: str, said: str) -> ApiError:
    """A 400 that names the parameter, the place in the schema and what is wrong there."""
    return ApiError(400, f"{where}{place}: {said}", param=where, code="unsupported_schema")


def children(schema: Schema | bool) -> Iterator[tuple[str, Schema | bool]]:
    """The schemas directly inside a plain one, each with its place."""
    if isinstance(schema, bool):
        return
    for key in ("$defs", *_MAPS):
        for name, value in schema.get(key, {}).items():
            yield f".{key}.{name}", value
    for key in _LISTS:
        for index, value in enumerate(schema.get(key, ())):
            yield f".{key}[{index}]", value
    for key in _SINGLE:
        if key in schema:
            yield f".{key}", schema[key]


class _Reader:
    """One schema while it is read; definitions are read once, in the order in which they are met."""

    def __init__(self, schema: Any, where: str) -> None:
        self._whole = schema
        self._where = where
        self._names: dict[str, str] = {}
        self._waiting: list[tuple[str, Any, str]] = []
        self._schemas = self._values = self._characters = 0

    def root(self) -> Schema | bool:
        top = self._read(self._whole, "", 0)
        found: Schema = {}
        while self._waiting:
            name, value, place = self._waiting.pop()
            found[name] = self._read(value, place, 0)
        if found and isinstance(top, dict):
            top["$defs"] = found
        return top

    def _fault(self, place: str, said: str) -> ApiError:
        return refusal(self._where, place, said)

    def _read(self, schema: Any, place: str, depth: int) -> Schema | bool:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise self._fault(place, f"a schema is an object or a boolean, not {_kind(schema)}")
        self._schemas += 1
        if depth > DEPTH:
            raise self._fault(place, f"nested more than {DEPTH} levels deep")
        if self._schemas > SCHEMAS:
            raise self._fault(place, f"there are more than {SCHEMAS} schemas")
        out: Schema = {}
        for key, value in schema.items():
            self._keyword(out, key, value, f"{place}.{key}", depth)
        return out if out.get("type") == "integer" else _with_closed_range(out)

    def _keyword(self, out: Schema, key: str, value: Any, place: str, depth: int) -> None:
        if key == "$ref":
            out[key] = self._ref(value, place)
        elif key in _MAPS:
            out[key] = self._map(key, value, place, depth)
        elif key in _LISTS:
            out[key] = [self._read(each, f"{place}[{n}]", depth + 1) for n, each in enumerate(self._list(value, place))]
        elif key in _SINGLE:
            out[key] = self._read(value, place, depth + 1)
        elif key in _REFUSED:
            self._refuse(key, value, place)
        elif (checked := self._plain_value(key, value, place)) is not _ANNOTATION:
            out[key] = checked

    def _refuse(self, key: str, value: Any, place: str) -> None:
        if key == "uniqueItems" and value is False:
            return
        raise self._fault(place, f"{key!r} cannot be enforced on a local model; leave it out")

    def _plain_value(self, key: str, value: Any, place: str) -> Any:
        """The value of a keyword without schemas inside, or ANNOTATION; what const and enum hold is data."""
        if key in ("const", "enum"):
            for each in [value] if key == "const" else self._list(value, place):
                self._count(each, place)
            return value
        if key in _NUMBERS:
            return self._number(key, value, place)
        if key in _COUNTS:
            return self._times(key, value, place)
        readers = {"type": self._type, "required": self._required, "pattern": self._pattern, "format": self._format}
        return readers[key](value, place) if key in readers else _ANNOTATION

    def _number(self, key: str, value: Any, place: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._fault(place, f"must be a number, not {_kind(value)}")
        if key == "multipleOf" and value <= 0:
            raise self._fault(place, "must be greater than 0")
        if not isfinite(value):
            raise self._fault(place, "must be finite")
        return value

    def _type(self, value: Any, place: str) -> Any:
        names = value if isinstance(value, list) else [value]
        for name in names:
            if not isinstance(name, str) or name not in _TYPES:
                raise self._fault(place, f"{name!r} is not a type; types are {', '.join(sorted(_TYPES))}")
        if not names:
            raise self._fault(place, "names no type")
        return value

    def _required(self, value: Any, place: str) -> Sequence[str]:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self._fault(place, "must be a list of names")
        for name in value:
            self._text(name, place)
        return list(dict.fromkeys(value))

    def _pattern(self, value: Any, place: str) -> str:
        if not isinstance(value, str):
            raise self._fault(place, f"must be a string, not {_kind(value)}")
        if len(value) > PATTERN:
            raise self._fault(place, f"the pattern has {len(value)} characters; at most {PATTERN} are taken")
        self._text(value, place)
        return _without_controls(value)

    def _format(self, value: Any, place: str) -> str:
        if value not in FORMATS:
            raise self._fault(place, f"{value!r} cannot be enforced; formats are {', '.join(sorted(FORMATS))}")
        return str(value)

    def _times(self, key: str, value: Any, place: str) -> int:
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value) and value >= 0
        if not whole:
            raise self._fault(place, "must be a whole number, 0 or more")
        if value > REPEATS.get(key, 10_000):
            raise self._fault(place, f"{int(value)} is too large; at most {REPEATS.get(key, 10_000)} is taken")
        return int(value)

    def _map(self, key: str, value: Any, place: str, depth: int) -> Schema:
        if not isinstance(value, Mapping):
            raise self._fault(place, f"must be an object, not {_kind(value)}")
        out: Schema = {}
        for name, each in value.items():
            kept = self._pattern(name, f"{place}.{name}") if key == "patternProperties" else name
            self._text(name, place)
            out[kept] = self._read(each, f"{place}.{name}", depth + 1)
        return out

    def _ref(self, value: Any, place: str) -> str:
        if not isinstance(value, str):
            raise self._fault(place, f"must be a string, not {_kind(value)}")
        if value != "#" and not value.startswith("#/"):
            raise self._fault(
                place, f"{value[:100]!r} is not inside this schema; only references like #/$defs/NAME are followed"
            )
        if value not in self._names:
            self._names[value] = name = f"d{len(self._names)}"
            if len(self._names) > DEFINITIONS:
                raise self._fault(place, f"there are references to more than {DEFINITIONS} definitions")
            self._waiting.append((name, self._target(value, place), value[1:].replace("/", ".")))
        return f"#/$defs/{self._names[value]}"

    def _target(self, ref: str, place: str) -> Any:
        found = self._whole
        for part in ref.split("/")[1:]:
            step = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and step in found:
                found = found[step]
            elif isinstance(found, list) and re.fullmatch(r"\d{1,6}", step) and int(step) < len(found):
                found = found[int(step)]
            else:
                raise self._fault(place, f"{ref[:100]!r} leads to nothing")
        if not isinstance(found, Mapping | bool):
            raise self._fault(place, f"{ref[:100]!r} leads to no schema")
        return found

    def _list(self, value: Any, place: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise self._fault(place, "must be a list with at least one entry")
        return value

    def _count(self, value: Any, place: str) -> None:
        """Add a constant to the limits."""
        waiting = [(value, 0)]
        while waiting:
            each, depth = waiting.pop()
            if depth > DEPTH:
                raise self._fault(place, f"nested more than {DEPTH} levels deep")
            self._values += 1
            if self._values > VALUES:
                raise self._fault(place, f"enums and constants have more than {VALUES} values")
            if isinstance(each, Mapping):
                waiting.extend((inner, depth + 1) for pair in each.items() for inner in pair)
            elif isinstance(each, list):
                waiting.extend((inner, depth + 1) for inner in each)
            elif isinstance(each, str):
                self._text(each, place)

    def _text(self, text: str, place: str) -> None:
        self._characters += len(text)
        if self._characters > CHARACTERS:
            raise self._fault(place, f"names, values and patterns have more than {CHARACTERS} characters")


def _with_closed_range(schema: Schema) -> Schema:
    """Open ends of a range of numbers, which llguidance lets through in places, as closed ones a millionth further in."""
    for open_end, closed, side, narrower in (
        ("exclusiveMinimum", "minimum", 1, max),
        ("exclusiveMaximum", "maximum", -1, min),
    ):
        if open_end in schema:
            end = schema.pop(open_end)
            inside = end + side * max(_INSIDE, abs(end) * _INSIDE)
            schema[closed] = narrower(inside, schema.get(closed, inside))
    return schema


def _without_controls(pattern: str) -> str:
    """The pattern whose negated classes leave out control characters too.

    llguidance lets an escaped quotation mark or backslash pass a class that excludes these and little else.
    """
    out, at = [], 0
    while at < len(pattern):
        size = 2 if pattern[at] == "\\" or pattern.startswith("[^", at) else 1
        out.append(pattern[at : at + size])
        if out[-1] == "[^":
            out.append(_CONTROLS)
        at += size
    return "".join(out)


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )
