"""What a parsed document is: text, sections and spans; values only, every reader fills them and the chunker reads them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lsbuild_runtime.ports import Attribute

NEWLINE = re.compile(r"\r\n|\r|\n")
"""What ends a line, in CommonMark and in editors; ``str.splitlines`` knows eight more."""

BLANK_LINE = re.compile(r"(?>\r\n|\r|\n)[ \t]*(?>\r\n|\r|\n)")
"""What separates paragraphs of plain text. The groups are atomic, or one CRLF would count as two line ends."""

BLANK_BEFORE_TOP = re.compile(BLANK_LINE.pattern + r"(?=\S)")
"""A blank line before an unindented line: a function or a literal block with blank lines inside stays whole."""


class IngestError(Exception):
    """A document cannot be read: ``what`` is wrong ``where``, and the ``hint`` says what to do. Callers give it their class."""

    def __init__(self, what: str, *, where: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` up to (not including) ``end`` of ``Document.text``; never empty, no blank space at its end."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Section:
    """Neighbouring blocks below one heading. ``heading`` is the path of titles, outermost first.

    Where ``Document.text`` was extracted, ``page`` is the page (from 1) or ``line`` the line of the file that all of the
    section's text comes from; 0 says nothing.
    """

    heading: tuple[str, ...]
    blocks: tuple[Span, ...]
    page: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed file.

    ``text`` is the decoded file itself (so offsets and lines are those of the file), but for HTML, PDF and JSON lines it
    is the text that was extracted. ``attributes`` are what searches can filter by.
    """

    path: str
    text: str
    sections: tuple[Section, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


class Lines:
    """The lines of a text: offsets <-> numbers. Numbers count from 1 here, from 0 in ``starts``."""

    def __init__(self, text: str) -> None:
        self.starts = [0, *(match.end() for match in NEWLINE.finditer(text))]
        self._length = len(text)

    def number(self, offset: int) -> int:
        """The line that holds the character at ``offset``."""
        return bisect_right(self.starts, offset)

    def offset(self, index: int) -> int:
        """Where line ``index`` (from 0) starts; the end of the text for a line past the last."""
        return self.starts[index] if index < len(self.starts) else self._length


def trimmed(text: str, start: int, end: int) -> Span | None:
    """The span without blank lines before and blank space behind; None when nothing is left.

    The indentation of the first line stays: it is part of a code block. A byte order mark is no text.
    """
    start += not start and text.startswith("\ufeff")
    body = text[start:end].rstrip()
    if not body.strip():
        return None
    blank = len(body) - len(body.lstrip())
    lead = max(body.rfind("\n", 0, blank), body.rfind("\r", 0, blank)) + 1
    return Span(start + lead, start + len(body))


def cut_at(separator: re.Pattern[str], text: str, start: int, end: int) -> Iterator[Span]:
    """The parts of ``text[start:end]`` between matches of ``separator``, trimmed, without empty ones."""
    for match in separator.finditer(text, start, end):
        if span := trimmed(text, start, match.start()):
            yield span
        start = match.end()
    if span := trimmed(text, start, end):
        yield span
