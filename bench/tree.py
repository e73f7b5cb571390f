"""How much memory a running program and its children hold together, at most; it samples /proc."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

from bench.worker import resident_mb

EVERY_S = 0.05


class ChildrenPeak:
    """Largest sum of resident sets (MB) of all descendants of this process between entering and leaving."""

    def __init__(self) -> None:
        self.mb = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> ChildrenPeak:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._end.wait(EVERY_S):
            self.mb = max(self.mb, sum(map(_resident, descendants(os.getpid()))))


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``, as they are now."""
    found: list[int] = []
    todo = [pid]
    while todo:
        todo += (below := _children(todo.pop()))
        found += below
    return found


def _children(pid: int) -> list[int]:
    """Those that any thread of it has started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:  # it ended meanwhile
            continue
    return found


def _resident(pid: int) -> float:
    try:
        return resident_mb(pid)
    except (OSError, IndexError):  # it ended meanwhile
        return 0.0
