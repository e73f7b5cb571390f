"""Markdown -> Document: CommonMark's own block structure (markdown-it-py), so a code block or table stays one block."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Mapping
from io import StringIO

from markdown_it import MarkdownIt
from markdown_it.token import Token
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lsbuild_runtime.ingest.document import Document, Lines, Section, Span, trimmed
from lsbuild_runtime.ports import Attribute

_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*(?:\r\n|\r|\n)(.*?)(?:\r\n|\r|\n)---[ \t]*(?=[\r\n]|\Z)", re.DOTALL)
_NOT_NEWLINE = re.compile(r"[^\r\n]")


def read(path: str, text: str) -> Document:
    """Blocks in sections by heading path. Front matter (YAML between ``---`` lines) becomes attributes, not text."""
    attributes, body = _front_matter(text)
    lines = Lines(text)
    return Document(path, text, tuple(_sections(text, lines, _blocks(body))), attributes)


def _blocks(body: str) -> list[Token]:
    """The outermost block tokens. Inline parsing is left out: it is not needed and slow on very long lines."""
    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.disable(["inline", "text_join"])
    return [token for token in parser.parse(body) if token.level <= 1]


def _sections(text: str, lines: Lines, tokens: list[Token]) -> Iterator[Section]:
    titles: list[tuple[int, str]] = []
    blocks: list[Span] = []
    heading: Span | None = None
    for index, token in enumerate(tokens):
        span = _span(text, lines, token)
        if span is None:
            continue
        if token.type != "heading_open":
            blocks.append(span)
            continue
        level = int(token.tag[1:])
        # A heading with nothing below it, not even a deeper heading, is all that its section says: it becomes the block.
        if not blocks and heading and titles and level <= titles[-1][0]:
            blocks.append(heading)
        if blocks:
            yield Section(tuple(title for _, title in titles), tuple(blocks))
        titles = [outer for outer in titles if outer[0] < level] + [(level, _plain(tokens[index + 1].content))]
        blocks, heading = [], span
    if not blocks and heading:
        blocks.append(heading)
    if blocks:
        yield Section(tuple(title for _, title in titles), tuple(blocks))


def _span(text: str, lines: Lines, token: Token) -> Span | None:
    """Where an outermost block stands; None for what says nothing (rules, comments, closing tokens)."""
    if token.level or token.map is None or token.type == "hr":
        return None
    if token.type == "html_block" and token.content.lstrip().startswith("<!--"):
        return None
    return trimmed(text, lines.offset(token.map[0]), lines.offset(token.map[1]))


def _plain(title: str) -> str:
    """A heading's words without emphasis, code marks and link targets."""
    (inline,) = MarkdownIt("commonmark").parseInline(title)
    words = "".join(" " if child.type == "softbreak" else child.content for child in inline.children or ())
    return " ".join(words.split()) or title.strip()


def _front_matter(text: str) -> tuple[Mapping[str, Attribute], str]:
    """Attributes, and the text with the front matter (and a byte order mark) blanked out in place, lines kept.

    Two ``---`` lines that do not hold a YAML map are CommonMark's thematic breaks, so they are left alone.
    """
    match = _FRONT_MATTER.match(text)
    values = _yaml(match[1]) if match else None
    if match is None or values is None:
        return {}, text.replace("\ufeff", " ", 1) if text.startswith("\ufeff") else text
    blank = _NOT_NEWLINE.sub(" ", match[0])
    return values, blank + text[match.end() :]


def _yaml(source: str) -> dict[str, Attribute] | None:
    try:
        values = YAML(typ="safe", pure=True).load(StringIO(source))
    except (YAMLError, ValueError):
        return None
    if not isinstance(values, dict):
        return None
    pairs = ((str(key), _attribute(value)) for key, value in values.items())
    return {key: value for key, value in pairs if value is not None}


def _attribute(value: object) -> Attribute | None:
    """Strings, numbers and booleans as they are, dates in ISO form, lists joined by a comma; None for anything deeper."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) >> 63:
        return str(value)  # SQLite's integers end there
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        return ", ".join(str(part) for part in value)
    return None
