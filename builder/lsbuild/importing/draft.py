"""A spec in the making, and its text: entries with comments, some of them commented out; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lsbuild.spec.marks import scalar

Scalar = str | int | float | bool
Value = Scalar | tuple[str, ...] | Mapping[str, "Field"]

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@=-]*(:+[A-Za-z0-9_./@=-]+)*")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_LONGEST_COMMENT = 160


@dataclass(frozen=True, slots=True)
class Field:
    """One value and what is said beside it."""

    value: Value
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of ``models``, ``vector_stores``, ``shields`` or ``tools``.

    ``active`` is False for one that is written as a comment.
    """

    section: str
    name: str
    fields: Mapping[str, Field]
    comments: Sequence[str] = ()
    active: bool = True
    id: str = ""
    """What the other system calls it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What will be the spec."""

    name: str
    entries: tuple[Entry, ...] = ()
    params: Mapping[str, Field] = field(default_factory=dict)
    server: Mapping[str, Field] = field(default_factory=dict)


def text(draft: Draft, head: Sequence[str]) -> str:
    """The YAML of ``draft`` under the comment lines ``head``."""
    lines = [*(f"# {_comment(line)}" for line in head), "version: 1", f"name: {written(draft.name)}"]
    for section, values in (("params", draft.params), ("server", draft.server)):
        if values:
            lines += ["", f"{section}:", *_fields(values, 2)]
    for section in ("models", "vector_stores", "shields", "tools"):
        entries = [entry for entry in draft.entries if entry.section == section]
        if entries:
            empty = "" if any(entry.active for entry in entries) else " {}  # all are comments below"
            lines += ["", f"{section}:{empty}"]
            ordered = sorted(entries, key=lambda each: not each.active)
            lines += [line for index, entry in enumerate(ordered) for line in [*[""] * bool(index), *_entry(entry)]]
    return "\n".join(lines) + "\n"


def written(value: Scalar) -> str:
    """A scalar as YAML 1.2: plain where that is read as the same, else in double quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and scalar(value) == value:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _entry(entry: Entry) -> list[str]:
    lines = [f"# {_comment(line)}" for line in entry.comments]
    body = [f"{written(entry.name)}:", *_fields(entry.fields, 2)]
    lines += body if entry.active else [f"# {line}" for line in body]
    return [f"  {line}" for line in lines]


def _fields(fields: Mapping[str, Field], indent: int) -> list[str]:
    lines = []
    for key, each in fields.items():
        beside = f"  # {_comment(each.comment)}" if each.comment else ""
        if isinstance(each.value, Mapping) and list(each.value) == ["secret"]:
            lines.append(f"{' ' * indent}{written(key)}: {{secret: {_inner(each.value)}}}{beside}")
        elif isinstance(each.value, Mapping):
            lines += [f"{' ' * indent}{written(key)}:{beside}", *_fields(each.value, indent + 2)]
        elif isinstance(each.value, tuple):
            listed = ", ".join(written(value) for value in each.value)
            lines.append(f"{' ' * indent}{written(key)}: [{listed}]{beside}")
        else:
            lines.append(f"{' ' * indent}{written(key)}: {written(each.value)}{beside}")
    return lines


def _inner(value: Mapping[str, Field]) -> str:
    name = value["secret"].value
    return "" if isinstance(name, Mapping | tuple) else written(name)


def _comment(line: str) -> str:
    line = _UNPRINTABLE.sub(" ", line)
    return line if len(line) <= _LONGEST_COMMENT else f"{line[: _LONGEST_COMMENT - 3]}..."
