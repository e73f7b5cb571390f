"""A path into JSON (``$.days[0].wind``, ``$.items[*].name``), the part of JSONPath that cuts an answer; pure."""

from __future__ import annotations

import re
from typing import Any

_STEP = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\[(\*)\]|\['([^']*)'\]|\["([^"]*)"\]""")


def steps(path: str) -> list[str | int | None]:
    """Names, places, and None for every item. ValueError for a path that is none."""
    rest = path.removeprefix("$")
    rest = rest if rest.startswith((".", "[")) or not rest else f".{rest}"
    found: list[str | int | None] = []
    while rest:
        step = _STEP.match(rest)
        if step is None:
            raise ValueError(f"{rest[:40]!r} is not understood; write .name, [0] or [*]")
        name, place, every, quoted, double = step.groups()
        found.append(int(place) if place else None if every else name if name is not None else quoted or double or "")
        rest = rest[step.end() :]
    return found


def pick(value: Any, wanted: list[str | int | None]) -> Any:
    """What is at the path. LookupError when there is nothing; ``[*]`` passes over items without the rest of the path."""
    for index, step in enumerate(wanted):
        if step is None:
            items = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else None
            if items is None:
                raise LookupError
            return [found for item in items if (found := _or_none(item, wanted[index + 1 :])) is not None]
        if isinstance(step, int):
            if not isinstance(value, list):
                raise LookupError
            value = value[step]
        else:
            if not isinstance(value, dict):
                raise LookupError
            value = value[step]
    return value


def _or_none(value: Any, wanted: list[str | int | None]) -> Any:
    try:
        return pick(value, wanted)
    except LookupError:
        return None
