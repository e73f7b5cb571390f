"""A docstring as a description and what it says of each parameter (Google's ``Args:`` and Sphinx's ``:param x:``); pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from inspect import cleandoc

_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns?|Yields?|Raises|Examples?|Notes?|See Also|Attributes):\s*$")
_GOOGLE = re.compile(r"^(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")
_FIELD = re.compile(r"^:(\w+)(?:\s+([^:]*))?:\s*(.*)$")


def read(text: str) -> tuple[str, Mapping[str, str]]:
    """The description, which is what stands before the first section or field, and a text by parameter."""
    lines = cleandoc(text).splitlines()
    end = next((n for n, line in enumerate(lines) if _SECTION.match(line) or _FIELD.match(line)), len(lines))
    description = "\n".join(lines[:end]).strip()
    return description, {**_google(lines[end:]), **_sphinx(lines[end:])}


def _google(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    name, depth, inside = "", 0, False
    for line in lines:
        if section := _SECTION.match(line):
            name, inside = "", section[1] in ("Args", "Arguments", "Parameters")
            continue
        if not inside or not line.strip():
            continue
        entry = _GOOGLE.match(line)
        if entry and (not name or len(entry[1]) <= depth):
            name, depth = entry[2], len(entry[1])
            found[name] = [entry[3]]
        elif name:
            found[name].append(line.strip())
    return {each: " ".join(part for part in parts if part) for each, parts in found.items()}


def _sphinx(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if entry := _FIELD.match(line):
            name = entry[2].split()[-1] if entry[1] in ("param", "parameter", "arg", "argument") and entry[2] else ""
            if name:
                found[name] = [entry[3]]
        elif name and line.strip():
            found[name].append(line.strip())
    return {each: " ".join(part for part in parts if part) for each, parts in found.items()}
