"""What ``{{...}}`` and conditions mean: look-ups by name and comparisons, and nothing that computes; pure.

A reference is ``input.report``, ``steps.find.hits.0.text``, or ``item`` inside a map: names and places in lists, with dots.
Conditions have the form of a MongoDB filter, with the operators of OpenAI's search filters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

_PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_.-]+)\s*\}\}")

Scope = Mapping[str, Any]
"""``input``, ``steps`` by name, and inside a map ``item`` and ``index``."""


class Missing(Exception):
    """A reference leads nowhere."""


def look_up(reference: str, scope: Scope) -> Any:
    """The value behind a reference, which is never None; Missing says where the way ends."""
    parts = reference.split(".")
    value: Any = scope
    for place, part in enumerate(parts, 1):
        value = _inside(value, part)
        if value is None:
            raise Missing(f"{{{{{reference}}}}}: there is no '{'.'.join(parts[:place])}'")
    return value


def _inside(value: Any, part: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(part)
    if isinstance(value, list | tuple) and part.isascii() and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return None


def fill(value: Any, scope: Scope) -> Any:
    """``value`` with all references filled in. A text that is one reference becomes the value itself; inside a text, what is
    no text is written as JSON."""
    if isinstance(value, Mapping):
        return {key: fill(each, scope) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [fill(each, scope) for each in value]
    if not isinstance(value, str):
        return value
    if (alone := _PLACE.fullmatch(value.strip())) is not None:
        return look_up(alone[1], scope)
    return _PLACE.sub(lambda match: text_of(look_up(match[1], scope)), value)


def filled_text(value: str, scope: Scope) -> str:
    """The same, as a text."""
    return text_of(fill(value, scope))


def text_of(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def holds(when: Mapping[str, Any], scope: Scope) -> bool:
    """Whether every condition holds. A value that is not there fits ``ne``, ``nin`` and ``exists: false`` only."""
    return all(_fits(_found(reference, scope), test) for reference, test in when.items())


def _found(reference: str, scope: Scope) -> Any:
    try:
        return look_up(reference, scope)
    except Missing:
        return None


def _fits(value: Any, test: Any) -> bool:
    if not isinstance(test, Mapping):
        return _equal(value, test)
    return all(_one(value, operator, wanted) for operator, wanted in test.items())


def _one(value: Any, operator: str, wanted: Any) -> bool:
    match operator:
        case "eq":
            return _equal(value, wanted)
        case "ne":
            return not _equal(value, wanted)
        case "in":
            return any(_equal(value, each) for each in wanted)
        case "nin":
            return not any(_equal(value, each) for each in wanted)
        case "exists":
            return (value is not None) is bool(wanted)
        case "contains":
            return _contains(value, wanted)
        case "matches":
            from lsbuild_runtime.tools.arguments import matcher  # RE2, which ships where a workflow has a pattern

            found = matcher(str(wanted))
            return isinstance(value, str) and found is not None and bool(found(value))
    if isinstance(value, bool) or not _comparable(value, wanted):
        return False
    return bool({"gt": value > wanted, "gte": value >= wanted, "lt": value < wanted, "lte": value <= wanted}[operator])


def _equal(value: Any, wanted: Any) -> bool:
    """Texts without blanks around them and whatever their case, since models write them; True is not 1."""
    if isinstance(value, str) and isinstance(wanted, str):
        return value.strip().casefold() == wanted.strip().casefold()
    same = isinstance(value, bool) == isinstance(wanted, bool)
    return same and bool(value == wanted)


def _contains(value: Any, wanted: Any) -> bool:
    if isinstance(value, str):
        return isinstance(wanted, str) and wanted.casefold() in value.casefold()
    return isinstance(value, list | tuple) and any(_equal(each, wanted) for each in value)


def _comparable(value: Any, wanted: Any) -> bool:
    return (isinstance(value, str) and isinstance(wanted, str)) or (
        isinstance(value, int | float) and isinstance(wanted, int | float)
    )
