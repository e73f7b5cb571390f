"""What programs that search vectors have in common: files, one query at a time, the clock; standard library only.

``once FILE QUERIES EFFORT`` opens the file and asks the first query, as a fresh process does after a start;
``serve FILE QUERIES`` stays and answers ``{"first", "count", "effort", "within_s"}``. Queries are float32 vectors of
DIMENSIONS components, one after another.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.lines import Stopwatch, peak_mb, resident_mb, serve

DIMENSIONS = 384
WIDTH = 4 * DIMENSIONS
"""Bytes of one float32 vector."""
K = 10
"""How many neighbours are asked for."""


class Engine(Protocol):
    """An opened index."""

    def search(self, vector: bytes, effort: int) -> Sequence[int]:
        """Rows (from 0) of the K vectors nearest to a float32 one. ``effort`` is the engine's own knob; some have none."""
        ...


Open = Callable[[str], Engine]


def vectors(path: Path, first: int, count: int) -> list[bytes]:
    """``count`` vectors of a file, from number ``first`` on; it starts again at the end."""
    data = path.read_bytes()
    total = len(data) // WIDTH
    numbers = [(first + number) % total for number in range(count)]
    return [data[number * WIDTH : (number + 1) * WIDTH] for number in numbers]


def once(opened: Open, path: str, queries: str, effort: str) -> None:
    """Open and ask, then print what that cost inside this process."""
    (query,) = vectors(Path(queries), 0, 1)
    watch = Stopwatch()
    opened(path).search(query, int(effort))
    wall, cpu = watch.read()
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "rss_mb": resident_mb()}))


def stay(opened: Open, path: str, queries: str) -> None:
    """Answer requests until standard input ends."""
    engine = opened(path)
    serve(lambda request: timed(lambda vector: engine.search(vector, request["effort"]), Path(queries), request))


def timed(search: Callable[[bytes], Sequence[int]], queries: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Ask ``count`` queries one by one and time each; stops early when ``within_s`` have passed."""
    found: list[list[int]] = []
    cpu_ms: list[float] = []
    wall_ms: list[float] = []
    end = time.monotonic() + request["within_s"]
    for vector in vectors(queries, request["first"], request["count"]):
        watch = Stopwatch()
        rows = search(vector)
        wall, cpu = watch.read()
        found.append([int(row) for row in rows])
        cpu_ms.append(1000 * cpu)
        wall_ms.append(1000 * wall)
        if time.monotonic() > end:
            break
    return {"found": found, "cpu_ms": cpu_ms, "wall_ms": wall_ms, "rss_mb": resident_mb()}


def command(arguments: list[str], opened: Open) -> None:
    """``once`` or ``serve`` with their arguments."""
    {"once": once, "serve": stay}[arguments[0]](opened, *arguments[1:])


def main(programs: dict[str, Callable[[list[str]], None]]) -> None:
    """Call the program that the first argument names with the others; one that builds says how much memory it took."""
    name, *rest = sys.argv[1:]
    programs[name](rest)
    if name.startswith("build"):
        print(json.dumps({"peak_mb": peak_mb()}))
