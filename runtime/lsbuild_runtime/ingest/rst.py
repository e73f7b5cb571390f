"""reStructuredText -> Document: section titles by their underlines; directives and markup stay text, nothing is executed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsbuild_runtime.ingest.document import (
    BLANK_BEFORE_TOP,
    Document,
    Lines,
    Section,
    Span,
    cut_at,
    trimmed,
)

_LINE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}\s*")


def read(path: str, text: str) -> Document:
    """Sections by title; a title's level is the order in which its kind of line (with or without overline) first came."""
    return Document(path, text, tuple(_sections(text)))


def _sections(text: str) -> Iterator[Section]:
    styles: list[str] = []
    titles: list[str] = []
    begin = 0
    title: Span | None = None
    for first, last, style, words in [*_titles(text), (len(text), len(text), "", "")]:
        blocks = tuple(cut_at(BLANK_BEFORE_TOP, text, begin, first))
        level = styles.index(style) if style in styles else len(styles)
        if not blocks and title and level < len(titles) + (not style):
            blocks = (title,)
        if blocks:
            yield Section(tuple(titles), blocks)
        if style and style not in styles:
            styles.append(style)
        titles = [*titles[:level], words]
        begin, title = last, trimmed(text, first, last)


def _titles(text: str) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, style, words) of each title with its lines."""
    lines = Lines(text)
    rows = [text[lines.offset(i) : lines.offset(i + 1)].rstrip() for i in range(len(lines.starts))]
    index = 1
    while index < len(rows):
        under, words = _LINE.fullmatch(rows[index]), rows[index - 1]
        if under and words.strip() and not _LINE.fullmatch(words) and len(rows[index]) >= len(words.strip()):
            over = index >= 2 and rows[index - 2] == rows[index]
            standalone = over or index < 2 or not rows[index - 2]
            if standalone and (over or words[0] not in " \t"):
                yield lines.offset(index - 1 - over), lines.offset(index + 1), under[1] * (1 + over), words.strip()
                index += 1
        index += 1
