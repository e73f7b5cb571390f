"""Group ``words_*``: long lists of words beside the shipped packs, by RE2 and by Aho-Corasick, each in a process of its own.

On request only (``make bench ONLY=words``): it is what `pack.LONG` was chosen by.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.figure import Figure

SIZES = (0, 50, 500, 2_000, 5_000, 10_000, 20_000, 50_000)
NAMES = tuple(f"words_{size}" for size in SIZES)
ON_REQUEST = "words"
_ROWS: dict[tuple[int, str], dict[str, float]] = {}
_COLUMNS = ("start ms", "memory MB", "2 kB clean µs", "2 kB found µs", "chunk clean µs", "chunk found µs")


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """CPU time of one check of 2 kB without a find, Aho-Corasick against RE2; the table has the rest."""
    for size in SIZES:
        if f"words_{size}" not in names:
            continue
        for kind in ("RE2", "Aho-Corasick"):
            command = [sys.executable, "-m", "bench.words", kind, str(size)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
            _ROWS[size, kind] = json.loads(done.stdout)
        ours, peer = (_ROWS[size, kind]["2 kB found µs"] for kind in ("Aho-Corasick", "RE2"))
        yield Figure(
            f"words_{size}", ours, "us", "lower", peer, "RE2", conditions="a 2 kB message with one word of the list"
        )


def report() -> str:
    """All that was measured."""
    lines = [f"| words | by | {' | '.join(_COLUMNS)} |", f"|---|---|{'---|' * len(_COLUMNS)}"]
    for (size, kind), row in _ROWS.items():
        lines.append(f"| {size:,} | {kind} | {' | '.join(f'{row[column]:,.1f}' for column in _COLUMNS)} |")
    return "\n".join(lines)


def one(kind: str, size: int) -> dict[str, float]:
    """One row, in this process: CPU times, the memory that the shield takes with its first texts."""
    from msgspec.structs import replace

    from bench import finding, safety
    from lsbuild_plugins.rules.compile import canonical, pack, rules
    from lsbuild_plugins.rules.serve.shield import Shield
    from lsbuild_runtime.http import Context

    words = _words(size)
    compiled = rules.compile_packs(finding.read(finding.GENERAL), {}, canonical.table())
    if words:
        pack.LONG = 1 if kind == "Aho-Corasick" else size + 1  # type: ignore[misc]
        own = rules.compile_packs([_pack(words)], {}, compiled.table)
        compiled = replace(compiled, rules=(*compiled.rules, *own.rules))
    prose, context = safety.prose(2000), Context(deadline=float("inf"))
    found = f"{prose[:1000]} {words[size // 2]} {prose[1000:]}" if words else prose
    before, begun = _memory(), time.process_time()
    shield = Shield(compiled)
    shield.check(prose, "output", context)
    start = time.process_time() - begun
    row = {
        "start ms": start * 1000,
        "2 kB clean µs": _us(lambda: shield.check(prose, "output", context), 200),
        "2 kB found µs": _us(lambda: shield.check(found, "output", context), 10),
        "chunk clean µs": _stream(shield, prose),
        "chunk found µs": _stream(shield, found),
    }
    return {**row, "memory MB": _memory() - before}


def _words(size: int) -> list[str]:
    chance = random.Random(5)
    found: dict[str, None] = {}
    while len(found) < size:
        word = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(chance.randint(4, 12)))
        found[word if chance.random() < 0.7 else f"{word} {word[::-1]}"] = None
    return list(found)


def _pack(words: list[str]) -> Any:
    from lsbuild_plugins.rules.compile.pack import Pack

    category = {"action": "warn", "where": ["input", "output"], "message": "m"}
    rule = {"id": "list", "category": "list", "words": words, "matches": [words[0]], "passes": ["x"]}
    return Pack.model_validate({"pack": "list", "categories": {"list": category}, "rules": [rule]})


def _us(work: Callable[[], object], times: int) -> float:
    work()
    begun = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begun) / times * 1e6


def _stream(shield: Any, text: str) -> float:
    from lsbuild_runtime.http import Context

    guard = shield.guard("output", Context(deadline=float("inf")))
    begun = time.process_time()
    for place in range(0, len(text), 4):
        guard.feed(text[place : place + 4])
    return (time.process_time() - begun) / (len(text) / 4) * 1e6


def _memory() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
