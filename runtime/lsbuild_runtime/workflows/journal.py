"""What a run remembers of its steps, so that none is done again; in memory here, on disk in `kept`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct


class Outcome(Struct, frozen=True):
    """What a step gave: what later steps see of it, and whether words that nobody vouches for are in it."""

    value: Mapping[str, Any]
    tainted: bool = False


class Answer(Struct, frozen=True):
    """What a person said when a run asked."""

    approved: bool
    reason: str = ""


class Entry(Struct, frozen=True):
    """A step that ended: its path (``find``, ``sort.urgent``, ``each[2].ask``), and how."""

    path: str
    kind: str
    outcome: Outcome
    tries: int = 1
    ms: float = 0.0


class Journal(Protocol):
    """It may be used from several threads."""

    def outcome(self, path: str) -> Outcome | None:
        """What the step gave when it was done before."""
        ...

    def put(self, entry: Entry) -> None:
        """Keep it: when this returns the step is never done again. Cancelled when the run was."""
        ...

    def answer(self, path: str) -> Answer | None:
        """What a person said at this step."""
        ...


class Memory:
    """Implements Journal for a run that ends with its request."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._lock = threading.Lock()

    def outcome(self, path: str) -> Outcome | None:  # noqa: ARG002 - it begins empty, and no step is done twice
        """Nothing was done before."""
        return None

    def put(self, entry: Entry) -> None:
        """See Journal."""
        with self._lock:
            self.entries.append(entry)

    def answer(self, path: str) -> Answer | None:  # noqa: ARG002
        """Nobody was asked."""
        return None
