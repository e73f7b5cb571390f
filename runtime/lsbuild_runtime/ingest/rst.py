"""reStructuredText -> Document: titles by their underlines, objects by Sphinx's directives; nothing is executed.

All markup stays text. What a directive such as ``.. function:: json.dump(obj)`` describes is a section of its own below the
title, under the object's name. What is described within a class stays with the class: sections of single methods were tried,
and of the questions in examples/python-docs those for a name gained a little and all others lost more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsbuild_runtime.ingest.document import (
    BLANK_BEFORE_TOP,
    BLANK_LINE,
    Document,
    Lines,
    Section,
    Span,
    cut_at,
    trimmed,
)

_LINE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}\s*")

_OBJECT = re.compile(
    r"\.\.[ \t]+(?:[a-z]+:)?"
    r"(?:function|class|exception|method|classmethod|staticmethod|attribute|property|data|decorator|decoratormethod"
    r"|awaitablefunction|coroutinefunction|coroutinemethod|abstractmethod|macro|type|struct|member|var|opcode|option|envvar)"
    r"::[ \t]+(\S.*)"
)
"""The directive of an object, of any domain (``py:``, ``c:``), on one line of text."""

_PARAGRAPH = re.compile(BLANK_LINE.pattern + r"(?=[ \t]{0,3}\S)")
"""What separates the paragraphs of a description, which is indented by the width of ``.. ``."""

_ARGUMENTS = re.compile(r"\s*[(\[].*|\s+->.*", re.DOTALL)


def read(path: str, text: str) -> Document:
    """Sections by title; a title's level is the order in which its kind of line (with or without overline) first came."""
    return Document(path, text, tuple(_sections(text)))


def _sections(text: str) -> Iterator[Section]:
    styles: list[str] = []
    titles: list[str] = []
    begin = 0
    title: Span | None = None
    for first, last, style, words in [*_titles(text), (len(text), len(text), "", "")]:
        described = list(_described(text, begin, first))
        level = styles.index(style) if style in styles else len(styles)
        if not described and title and level < len(titles) + (not style):
            described = [((), (title,))]
        for names, blocks in described:
            yield Section((*titles, *names), blocks)
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


def _described(text: str, begin: int, end: int) -> Iterator[tuple[tuple[str, ...], tuple[Span, ...]]]:
    """(name of the object, if it describes one; blocks) of the parts of ``text[begin:end]``, without empty ones."""
    name: tuple[str, ...] = ()
    start = offset = begin
    while offset < end:
        newline = text.find("\n", offset, end)
        line = text[offset : newline if newline >= 0 else end]
        found = _OBJECT.match(line)
        if found or (name and line.strip() and line[0] not in " \t"):
            yield from _part(text, start, offset, name)
            start, name = offset, (_name(found[1]),) if found else ()
        offset += len(line) + 1
    yield from _part(text, start, end, name)


def _part(text: str, start: int, end: int, name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[Span, ...]]]:
    if blocks := tuple(cut_at(_PARAGRAPH if name else BLANK_BEFORE_TOP, text, start, end)):
        yield name, blocks


def _name(signature: str) -> str:
    """``json.dump(obj, fp)`` -> ``json.dump``."""
    return _ARGUMENTS.sub("", signature).strip() or signature.strip()
