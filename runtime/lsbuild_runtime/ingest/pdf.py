"""PDF -> Document: paragraphs page by page under the headings of the outline; offsets count in the extracted text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from lsbuild_runtime.ingest.document import Document, Section, Span
from lsbuild_runtime.ingest.pdf_pages import Bookmark, Pages, extract
from lsbuild_runtime.ports import Attribute

EDGE = 2
"""Lines at the top and at the bottom of a page that may be a running header or footer."""

RUNNING = 3
"""A line is one when it stands there, but for its digits, on at least so many pages and on a third of all, or when it
begins or ends with a number that counts the pages, on as many."""

_SPLIT_WORD = re.compile(r"(?<=[^\W\d_])[-\u00ad\u2010\ufffe\x02]\n(?=[^\W\d_])")
_JOINT = re.compile(r"[\ufffe\x02\u00ad]\n?|\0")
"""Where pdfium joined two lines at a hyphen; it writes such lines as one."""

_DIGITS = re.compile(r"\d+")
_COUNTER = re.compile(r"^\d{1,5}(?!\S)|(?<!\S)\d{1,5}$")
_Key = str | int
"""A line without its digits, or how far the number at its start or end is from the page's own."""
_ENDS = (".", "!", "?", ":", ";", "\u3002", "\uff01", "\uff1f")
_SHORT = 0.8
"""A line that ends a sentence and is shorter than so much of the longest ends its paragraph."""


def read(path: str, data: bytes) -> Document:
    """Each page's paragraphs; no section spans two pages, and each carries its ``page``.

    Words that a line end split are joined, running headers and footers (page numbers too) are left out. The text of a
    page is in the order in which the file draws it. IngestError for what is encrypted, damaged or holds no text.
    """
    return arranged(path, extract(path, data))


def arranged(path: str, found: Pages) -> Document:
    """The document that the pages make."""
    pages = _without_running([page.split("\n") for page in found.pages])
    parts: list[str] = []
    length = 0
    sections: list[Section] = []
    titles: list[Bookmark] = []
    for number, lines in enumerate(pages):
        marks = [mark for mark in found.outline if mark.page == number]
        for heading, paragraphs in _under_marks(lines, marks, titles):
            spans = []
            for paragraph in paragraphs:
                spans.append(Span(length, length + len(paragraph)))
                parts.append(paragraph)
                length += len(paragraph) + 2
            if spans:
                sections.append(Section(heading, tuple(spans), page=number + 1))
    attributes: dict[str, Attribute] = {"title": found.title} if found.title else {}
    return Document(path, "\n\n".join(parts), tuple(sections), attributes)


def _without_running(pages: list[list[str]]) -> list[list[str]]:
    """The lines of each page that are not blank, without headers and footers."""
    kept = [[line.rstrip() for line in page if line.strip()] for page in pages]
    least = max(RUNNING, (len(pages) + 2) // 3)
    tops = _running((page[:EDGE] for page in kept), least)
    ends = _running((page[-EDGE:] for page in kept), least)
    return [
        [
            line
            for index, line in enumerate(page)
            if not (index < EDGE and tops & _keys(line, number))
            and not (index >= len(page) - EDGE and ends & _keys(line, number))
        ]
        for number, page in enumerate(kept)
    ]


def _running(edges: Iterator[list[str]], least: int) -> frozenset[_Key]:
    counts = Counter(
        key for number, edge in enumerate(edges) for key in frozenset().union(*(_keys(line, number) for line in edge))
    )
    return frozenset(key for key, count in counts.items() if count >= least)


def _keys(line: str, number: int) -> frozenset[_Key]:
    """What a line at the edge of page ``number`` has in common with others: its words, and that it counts the pages."""
    bare = _DIGITS.sub("#", " ".join(line.split()))
    if _is_row(bare):
        return frozenset()
    return frozenset([bare, *(int(found) - number for found in _COUNTER.findall(line.strip()))])


def _is_row(bare: str) -> bool:
    """Several numbers and no word: a row of a table that goes on over pages."""
    return bare.count("#") > 1 and not any(map(str.isalpha, bare))


def _under_marks(
    lines: list[str], marks: list[Bookmark], titles: list[Bookmark]
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """A page's paragraphs below each heading; ``titles`` is the path that is open, changed as the outline goes on.

    A bookmark begins at the line that holds its title; one whose title is not found begins where the last one did.
    """
    start = 0
    for mark in marks:
        at = _line_of(mark.title, lines, start)
        if at is not None:
            yield _path(titles), _paragraphs(lines[start:at])
            start = at + 1
        titles[:] = [*(outer for outer in titles if outer.level < mark.level), mark]
    yield _path(titles), _paragraphs(lines[start:])


def _path(titles: list[Bookmark]) -> tuple[str, ...]:
    return tuple(mark.title for mark in titles)


def _line_of(title: str, lines: list[str], start: int) -> int | None:
    wanted = _letters(title)
    for index in range(start, len(lines)):
        found = _letters(lines[index])
        if wanted and found.endswith(wanted) and len(found) <= len(wanted) + 8:  # "3.2.1 Title"
            return index
    return None


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def _paragraphs(lines: list[str]) -> list[str]:
    """Lines joined to paragraphs. PDFs know none: a line ends one when it ends a sentence before the page's edge."""
    longest = max((len(part) for line in lines for part in _JOINT.split(line)), default=0)
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        paragraphs[-1].append(line)
        if line.endswith(_ENDS) and len(_JOINT.split(line)[-1]) < _SHORT * longest:
            paragraphs.append([])
    joined = (_SPLIT_WORD.sub("", "\n".join(paragraph)) for paragraph in paragraphs)
    clean = (_JOINT.sub("", paragraph).strip() for paragraph in joined)
    return [paragraph for paragraph in clean if paragraph]
