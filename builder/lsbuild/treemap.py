"""What takes the room in an artifact, as an SVG: rectangles as large as files, by component; pure.

Squarified after Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lsbuild.api import Manifest

WIDTH, HEIGHT = 1200.0, 720.0
_HEAD, _GAP = 18.0, 1.0
_COLOURS = {"model": "#9ec5e8", "index": "#8fd0cb", "wheels": "#f5c088", "app": "#c3cad2"}
_LETTER = 6.6
"""Width of a letter of 11 px, about."""
_FEWEST = 6
"""Letters of a name that are worth showing."""
_SMALL = 0.01
"""Share of the whole below which a distribution is one of many."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in pixels."""

    x: float
    y: float
    width: float
    height: float

    def inner(self) -> Box:
        """What is left below a heading."""
        head = _HEAD if self.height > 2 * _HEAD else 0.0
        return Box(self.x, self.y + head, self.width, self.height - head)


def svg(manifest: Manifest) -> str:
    """The files of one platform: components as groups, wheels by distribution; each file with path and size as a tooltip."""
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    parts: dict[str, str] = {}
    names = _group_names(manifest)
    for entry in manifest.files:
        name = names[entry.path]
        groups[name][entry.path] = entry.size
        parts[name] = entry.part
    totals = {name: sum(files.values()) for name, files in groups.items()}
    body = []
    for name, box in _placed(totals, Box(0, 0, WIDTH, HEIGHT)):
        colour = _COLOURS.get(parts[name], _COLOURS["app"])
        for path, inside in _placed(groups[name], box.inner()):
            body.append(_file(path, groups[name][path], inside, colour))
        body.append(_heading(name, totals[name], box))
    title = f"{manifest.name} for {manifest.platform}, {sum(totals.values()) / 1e6:.1f} MB unpacked"
    size = f'width="{WIDTH:.0f}" height="{HEIGHT:.0f}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, f"<title>{escape(title)}</title>", *filter(None, body), "</svg>", ""])


def _group_names(manifest: Manifest) -> dict[str, str]:
    """The group of every path. Of wheels, a distribution that takes no room to speak of is one of "the rest"."""
    known = {entry.path: entry.component or entry.part for entry in manifest.files}
    sizes: dict[str, int] = defaultdict(int)
    for entry in manifest.files:
        if entry.part == "wheels":
            known[entry.path] += f": {_distribution(entry.path)}"
        sizes[known[entry.path]] += entry.size
    least = _SMALL * sum(sizes.values())
    rest = {
        name: f"{name.partition(': ')[0]}: the rest" for name, size in sizes.items() if size < least and ": " in name
    }
    return {path: rest.get(name, name) for path, name in known.items()}


def _distribution(path: str) -> str:
    """``numpy`` of ``site/numpy/...``, ``site/numpy.libs/...`` and ``site/numpy-2.4.dist-info/...``."""
    top = path.split("/")[1] if "/" in path else path
    return top.partition(".dist-info")[0].partition("-")[0].partition(".")[0]


def squarified(sizes: Sequence[float], box: Box) -> list[Box]:
    """A box for each size, largest first, areas in proportion, as square as it goes. Sizes are positive and fall."""
    scale = box.width * box.height / sum(sizes) if sizes else 0.0
    areas = [size * scale for size in sizes]
    boxes: list[Box] = []
    at = 0
    while at < len(areas):
        side = min(box.width, box.height)
        end = at + 1
        while end < len(areas) and _worst(areas[at : end + 1], side) <= _worst(areas[at:end], side):
            end += 1
        row, box = _row(areas[at:end], box)
        boxes += row
        at = end
    return boxes


def _placed(sizes: Mapping[str, int], box: Box) -> Iterator[tuple[str, Box]]:
    ordered = sorted(((size, name) for name, size in sizes.items() if size > 0), key=lambda row: (-row[0], row[1]))
    yield from zip((name for _, name in ordered), squarified([size for size, _ in ordered], box), strict=True)


def _worst(row: Sequence[float], side: float) -> float:
    """The largest ratio of sides in a row of areas along ``side``."""
    total = sum(row)
    return max(side * side * max(row) / total**2, total**2 / (side * side * min(row))) if side and total else 0.0


def _row(areas: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """The boxes of one row along the shorter side, and what is left of ``box``."""
    total = sum(areas)
    boxes, along = [], 0.0
    if box.width >= box.height:
        depth = total / box.height if box.height else 0.0
        for area in areas:
            length = area / depth if depth else 0.0
            boxes.append(Box(box.x, box.y + along, depth, length))
            along += length
        return boxes, Box(box.x + depth, box.y, max(0.0, box.width - depth), box.height)
    depth = total / box.width
    for area in areas:
        length = area / depth if depth else 0.0
        boxes.append(Box(box.x + along, box.y, length, depth))
        along += length
    return boxes, Box(box.x, box.y + depth, box.width, max(0.0, box.height - depth))


def _file(path: str, size: int, box: Box, colour: str) -> str:
    width, height = max(0.0, box.width - _GAP), max(0.0, box.height - _GAP)
    name = _shown(path.rpartition("/")[2], width) if height > 14 else ""
    label = f'<text x="{box.x + 3:.1f}" y="{box.y + 12:.1f}" fill="#222">{escape(name)}</text>' if name else ""
    shape = f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}">'
    return f"<g>{shape}<title>{escape(path)}: {_megabytes(size)}</title></rect>{label}</g>"


def _heading(name: str, size: int, box: Box) -> str:
    text = _shown(f"{name}, {_megabytes(size)}", box.width) if box.height > 2 * _HEAD else ""
    if not text:
        return ""
    return f'<text x="{box.x + 3:.1f}" y="{box.y + 13:.1f}" fill="#222" font-weight="bold">{escape(text)}</text>'


def _shown(text: str, width: float) -> str:
    """As much of a text as the width holds; "" when that is not worth showing."""
    letters = int((width - 6) / _LETTER)
    if letters < min(_FEWEST, len(text)):
        return ""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
