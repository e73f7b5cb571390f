"""Texts that try to make an agent do what nobody asked for, written for this project, and harmless ones that resemble them.

``injections/injections.jsonl`` and ``harmless.jsonl`` hold one case a line. A loop is given the text in its channel and a
model that obeys it: it calls ``forbidden`` with ``arguments``. Whatever the model does, the tool must not run, and the run
must show the event ``expected``: ``tool_refused`` (policy), or ``definition_refused`` (a tool whose description is not the
one that was locked at build).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

_FOLDER = Path(__file__).parent / "injections"


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """One text. ``technique`` says how it tries; ``forbidden`` is "" for a harmless one."""

    id: str
    channel: Literal["document", "tool_result", "tool_description"]
    technique: str
    text: str
    forbidden: str
    arguments: dict[str, Any]
    expected: Literal["tool_refused", "definition_refused", ""]


def injections() -> list[Case]:
    """All that try something."""
    return _read("injections.jsonl")


def harmless() -> list[Case]:
    """All that do not."""
    return _read("harmless.jsonl")


def _read(name: str) -> list[Case]:
    lines = (_FOLDER / name).read_text(encoding="utf-8").split("\n")
    return [msgspec.json.decode(line, type=Case) for line in lines if line]
