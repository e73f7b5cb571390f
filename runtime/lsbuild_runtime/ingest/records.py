"""JSON lines -> Document: each line is a record with a text, a title and other fields; its passages carry its line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lsbuild_runtime.ingest.document import NEWLINE, Document, IngestError, Section, Span

TEXTS = ("text", "content", "page_content", "body", "passage", "chunk", "document", "answer", "description", "summary")
"""Names of the field that is a record's text; the first that holds one."""

TITLES = ("title", "heading", "question", "name", "subject")
"""Names of the field that is a record's heading, embedded before its text."""


def read(path: str, text: str) -> Document:
    """A section for each line that is not blank. The extracted text becomes ``Document.text``; lines are those of the file.

    A record's other fields with plain values follow its text as ``name: value`` lines, so that they are found by their
    words and shown to the model. A record without a known text field is all such lines. IngestError names the first line
    that is no JSON.
    """
    parts: list[str] = []
    length = 0
    sections: list[Section] = []
    for number, line in enumerate(NEWLINE.split(text.removeprefix("\ufeff")), start=1):
        if not line.strip():
            continue
        title, blocks = _record(_value(path, number, line), line)
        spans = []
        for block in blocks:
            spans.append(Span(length, length + len(block)))
            parts.append(block)
            length += len(block) + 2
        if spans:
            sections.append(Section((title,) if title else (), tuple(spans), line=number))
    return Document(path, "\n\n".join(parts), tuple(sections))


def _value(path: str, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        what = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise IngestError(
            f"line {number} is not JSON: {what}", where=f"{path}:{number}", hint="Each line has to be one JSON value."
        ) from error


def _record(value: Any, line: str) -> tuple[str, list[str]]:
    """(title or "", blocks that are not empty)"""
    if isinstance(value, str):
        return "", _filled([value])
    if not isinstance(value, Mapping):
        return "", _filled([line])
    main = next((name for name in TEXTS if _is_text(value.get(name))), "")
    top = next((name for name in TITLES if _is_text(value.get(name))), "") if main else ""
    title = " ".join(value[top].split()) if top else ""
    others = "\n".join(_others(value, {main, top}))
    return title, _filled([value[main] if main else "", others]) or _filled([line])


def _others(record: Mapping[str, Any], taken: set[str]) -> Iterator[str]:
    for name, value in record.items():
        if name in taken or value is None or value == "":
            continue
        if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
            yield f"{name}: {', '.join(map(str, value))}"
        elif isinstance(value, bool):
            yield f"{name}: {'true' if value else 'false'}"
        elif isinstance(value, str | int | float):
            yield f"{name}: {value}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _filled(blocks: list[str]) -> list[str]:
    """Without blank space around, without empty ones, without what no UTF-8 can hold."""
    clean = (block.strip().encode("utf-8", "replace").decode() for block in blocks)
    return [block for block in clean if block]
