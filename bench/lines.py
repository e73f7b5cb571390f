"""The worker's end of the conversation in JSON lines; standard library only, since peers run it without lsbuild."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def serve(answer: Answer, **ready: Any) -> None:
    """Say ``ready``, then answer one JSON object per line until standard input ends.

    Whatever libraries print goes to standard error: the conversation keeps a descriptor of its own.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        _say(out, ready)
        for line in sys.stdin:
            _say(out, answer(json.loads(line)))


def _say(out: Any, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


class Stopwatch:
    """Wall and CPU seconds (all threads of this process) since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """(wall, CPU) seconds."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def peak_mb() -> float:
    """The largest resident set of this process since its program was started, in MB (10^6 bytes).

    Not ``ru_maxrss``: that one remembers the process that forked this one.
    """
    return _status("VmHWM")


def resident_mb() -> float:
    """The resident set now, in MB."""
    return _status("VmRSS")


def _status(key: str) -> float:
    with open("/proc/self/status", encoding="ascii") as stream:  # noqa: PTH123 - also read before pathlib is imported
        line = next(line for line in stream if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024 / 1e6
