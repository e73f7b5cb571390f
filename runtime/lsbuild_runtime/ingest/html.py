"""HTML -> Document: visible text in sections by h1..h6 (selectolax); offsets count in the extracted text, not in the file."""

from __future__ import annotations

from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from lsbuild_runtime.ingest.document import Document, Section, Span
from lsbuild_runtime.ports import Attribute

_HIDDEN = frozenset(("script", "style", "noscript", "template", "svg", "math", "head", "iframe", "object", "select"))
_INLINE_TAGS = """a abbr b bdi bdo br button cite code data del dfn em font i img input ins kbd label mark q s samp small
span strike strong sub sup time tt u var wbr -text"""
_INLINE = frozenset(_INLINE_TAGS.split())
_HEADINGS = {f"h{level}": level for level in range(1, 7)}


def read(path: str, text: str) -> Document:
    """Each paragraph, list item, cell, heading or ``pre`` is a block; blocks are joined by a blank line.

    The extracted text becomes ``Document.text``. ``<title>`` becomes the attribute ``title``.
    """
    tree = LexborHTMLParser(text)
    title = tree.css_first("title")
    words = " ".join(title.text().split()) if title else ""
    attributes: dict[str, Attribute] = {"title": words} if words else {}
    builder = _Builder()
    if tree.body:
        for level, block in _blocks(tree.body):
            builder.add(level, block)
    return Document(path, builder.text(), builder.sections(), attributes)


class _Builder:
    """Joins blocks into one text and remembers their spans; ``add(0, block)`` is text, ``add(1..6, ...)`` a heading."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._done: list[Section] = []
        self._titles: list[tuple[int, str]] = []
        self._blocks: list[Span] = []
        self._heading: Span | None = None

    def add(self, level: int, block: str) -> None:
        span = Span(self._length, self._length + len(block))
        self._parts.append(block)
        self._length += len(block) + 2
        if not level:
            self._blocks.append(span)
            return
        if self._titles and level <= self._titles[-1][0]:
            self._keep_bare_heading()
        self._close()
        self._titles = [outer for outer in self._titles if outer[0] < level] + [(level, " ".join(block.split()))]
        self._heading = span

    def text(self) -> str:
        return "\n\n".join(self._parts)

    def sections(self) -> tuple[Section, ...]:
        self._keep_bare_heading()
        self._close()
        return tuple(self._done)

    def _keep_bare_heading(self) -> None:
        if not self._blocks and self._heading:
            self._blocks = [self._heading]

    def _close(self) -> None:
        if self._blocks:
            self._done.append(Section(tuple(title for _, title in self._titles), tuple(self._blocks)))
        self._blocks, self._heading = [], None


def _blocks(body: LexborNode) -> Iterator[tuple[int, str]]:
    """(heading level or 0, text) in document order; walks with its own stack, since pages nest deeper than Python may."""
    words: list[str] = []
    level = 0
    stack: list[tuple[LexborNode, bool]] = [(body, False)]
    while stack:
        node, leaving = stack.pop()
        tag = node.tag or ""
        if tag in _HIDDEN or tag == "-comment":
            continue
        if tag not in _INLINE:
            if block := " ".join("".join(words).split()):
                yield level, block
            words, level = [], 0 if leaving else _HEADINGS.get(tag, 0)
        if leaving:
            continue
        if tag == "br":
            words.append(" ")
        elif tag == "-text":
            words.append(node.text_content or "")
        elif tag == "pre":
            if block := node.text().strip("\r\n").rstrip():
                yield 0, block
        else:
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(list(node.iter(include_text=True))))
