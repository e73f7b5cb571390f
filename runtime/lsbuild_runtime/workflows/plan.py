"""A compiled workflow as values; it reads one file and does nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

FILE = "workflow.json"
Kind = Literal["agent", "model", "tool", "search", "shield", "branch", "map", "approval"]


class Retries(Struct, frozen=True):
    """``count`` more tries, with pauses of ``backoff`` seconds, twice that, and so on."""

    count: int = 0
    backoff: float = 1.0


class Case(Struct, frozen=True):
    """One way of a branch. ``when`` as in `values.holds`."""

    steps: tuple[Step, ...]
    when: Mapping[str, Any] = {}


class Step(Struct, frozen=True):
    """One step. ``use`` is what its kind names: an agent, a model, a tool, a store, a shield, the list of a map, or what a
    person is asked."""

    name: str
    kind: Kind
    use: str = ""
    prompt: str = ""
    system: str = ""
    answer: Mapping[str, Any] | None = None
    tokens: int | None = None
    temperature: float | None = None
    arguments: Mapping[str, Any] = {}
    query: str = ""
    limit: int = 5
    text: str = ""
    where: Literal["input", "output", "retrieved"] = "input"
    cases: tuple[Case, ...] = ()
    steps: tuple[Step, ...] = ()
    concurrency: int = 4
    retries: Retries = Retries()
    timeout: float | None = None
    on_error: Literal["fail", "continue"] = "fail"


class Workflow(Struct, frozen=True):
    """``input`` is the JSON Schema of what a run is given, ``output`` a value with ``{{...}}`` (None: the last step's text);
    ``wall`` and ``keep`` in seconds. ``version`` names this very form of it."""

    name: str
    input: Mapping[str, Any]
    steps: tuple[Step, ...]
    description: str = ""
    output: Any = None
    wall: float = 600.0
    keep: float = 2_592_000.0
    version: str = ""


def read(folder: Path) -> Workflow:
    """The workflow in ``workflow.json``."""
    data = (folder / FILE).read_bytes()
    return replace(msgspec.json.decode(data, type=Workflow), version=hashlib.sha256(data).hexdigest()[:16])
