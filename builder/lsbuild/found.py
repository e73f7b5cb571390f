"""What shields find of labelled messages, as tables for people; it measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lsbuild.api import Json

_HEAD = ("messages", "found", "right", "precision", "recall")


def lines(name: str, found: Sequence[Mapping[str, Json]]) -> Iterator[str]:
    """A table for each set of messages that was measured for ``name``: the fact ``found`` of a step, or a service's metadata."""
    for each in found:
        rows = {category: [_cell(told[column]) for column in _HEAD] for category, told in each["categories"].items()}
        width = max(map(len, ("category", *rows)))
        yield f"{name}: of {each['messages']} labelled messages ({each['of']})"
        yield f"    {'category':<{width}}" + "".join(f"  {column:>9}" for column in _HEAD)
        for category, cells in rows.items():
            yield f"    {category:<{width}}" + "".join(f"  {cell:>9}" for cell in cells)


def _cell(value: Json) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
