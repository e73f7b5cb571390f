"""Python source -> Document: classes and functions are sections under their names (ast); nothing is executed."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from lsbuild_runtime.ingest.document import BLANK_BEFORE_TOP, Document, Lines, Section, cut_at

_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def read(path: str, text: str) -> Document | None:
    """Sections by qualified name, with decorators and the comments right above; None when this Python cannot parse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the file's own faults, such as unknown escapes
            tree = ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two for what is nested too deep
        return None
    lines = Lines(text)
    return Document(path, text, tuple(_sections(text, lines, tree.body, (), 0, len(lines.starts))))


def _sections(
    text: str, lines: Lines, body: list[ast.stmt], names: tuple[str, ...], first: int, last: int
) -> Iterator[Section]:
    """Sections of the lines ``first`` up to ``last`` (from 0), which hold ``body`` inside of ``names``."""
    for node in body:
        if not isinstance(node, _Named) or (end := node.end_lineno or 0) > last:
            continue
        start = _start(text, lines, node, first)
        if start < first:
            continue  # a second statement on the line of another
        yield from _between(text, lines, names, first, start)
        inner = (*names, node.name)
        if isinstance(node, ast.ClassDef):
            yield from _sections(text, lines, node.body, inner, start, end)
        else:
            yield from _between(text, lines, inner, start, end)
        first = end
    yield from _between(text, lines, names, first, last)


def _start(text: str, lines: Lines, node: _Named, first: int) -> int:
    """The line (from 0) of the first decorator, or of the comment above it."""
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    while start > first and text[lines.offset(start - 1) : lines.offset(start)].lstrip().startswith("#"):
        start -= 1
    return start


def _between(text: str, lines: Lines, names: tuple[str, ...], first: int, last: int) -> Iterator[Section]:
    blocks = tuple(cut_at(BLANK_BEFORE_TOP, text, lines.offset(first), lines.offset(last)))
    if blocks:
        yield Section(names, blocks)
