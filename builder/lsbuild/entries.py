"""Files of entries that people write, a YAML list or JSON Lines: each entry with where it stands; it knows no entry's meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from lsbuild.errors import SourceError, SpecError


def read(path: Path, name: str, what: str) -> list[tuple[str, Any]]:
    """(``name:line``, value) of every entry of a file (.yaml, .yml or .jsonl); ``what`` is one of them, for people.

    SourceError when the file cannot be read as that, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"not UTF-8 (byte {error.start})", where=name, hint="Save the file in that encoding."
        ) from error
    found = list(_jsonl(text, name) if name.endswith(".jsonl") else _yaml(text, name, what))
    if not found:
        raise SourceError(f"there is no {what} in this file", where=name)
    return found


def _yaml(text: str, name: str, what: str) -> Iterator[tuple[str, Any]]:
    from lsbuild.spec import marks  # 0.1 CPU seconds

    faults: list[Any] = []
    try:
        tree = marks.parse(text, name, faults)
    except SpecError as error:
        faults = list(error.problems)
    if faults:
        raise SourceError(faults[0].message, where=faults[0].where or name)
    if not marks.is_list(tree):
        raise SourceError(f"the file is no list of {what}s", where=name, hint=f"Begin each {what} with a dash.")
    for node in tree.list:
        yield node.origin.where, node.plain()


def _jsonl(text: str, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield f"{name}:{number}", msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise SourceError(f"not JSON: {error}", where=f"{name}:{number}") from error
