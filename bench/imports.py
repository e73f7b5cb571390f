"""Group ``import_*``: what an interpreter pays before the first line of work, ours against what others import."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from functools import partial

from bench import builds
from bench.environment import peer_python
from bench.figure import Budget, Figure
from bench.rounds import Reading, interleave, medians
from bench.worker import run

ROUNDS = 9
_REPORT = (
    "\nimport time; cpu = time.process_time()"
    "\nrss = next(line for line in open('/proc/self/status') if line.startswith('VmRSS:')).split()[1]"
    '\nprint(\'{"cpu": %f, "rss": %f}\' % (cpu, int(rss) * 1024 / 1e6))'
)
PEERS = {"openai": "import openai", "fastapi": "import fastapi, pydantic"}
NAMES = tuple(f"import_runtime_vs_{peer}_{quantity}" for peer in PEERS for quantity in ("cpu", "rss"))
_QUANTITIES = {"cpu": ("CPU-ms", Budget(50.0)), "rss": ("MB", Budget(25.0))}


def measure(names: tuple[str, ...]) -> Iterable[Figure]:  # noqa: ARG001 - all are measured in the same rounds
    """CPU time above that of an empty interpreter started the same way; memory in all."""
    root = builds.search()
    path = f"import sys; sys.path[:0] = [{str(root / 'app')!r}, {str(root / 'site')!r}]\n"
    mine, theirs = [sys.executable, "-I", "-S", "-B"], [peer_python(), "-I"]
    contestants = {
        "ours": partial(_once, mine, path + "import lsbuild_runtime.serve.main"),
        "ours empty": partial(_once, mine, path),
        **{name: partial(_once, theirs, text) for name, text in PEERS.items()},
        "peer empty": partial(_once, theirs, ""),
    }
    middle = {name: medians(each) for name, each in interleave(contestants, ROUNDS).items()}
    for name, text in PEERS.items():
        for quantity, (unit, budget) in _QUANTITIES.items():
            scale = 1000.0 if quantity == "cpu" else 1.0
            start = {side: middle[f"{side} empty"]["cpu"] if quantity == "cpu" else 0.0 for side in ("ours", "peer")}
            yield Figure(
                name=f"import_runtime_vs_{name}_{quantity}",
                ours=scale * (middle["ours"][quantity] - start["ours"]),
                peer=scale * (middle[name][quantity] - start["peer"]),
                unit=unit,
                better="lower",
                peer_name=text,
                budget=budget,
                conditions=f"the whole server with uvicorn, compiled bytecode, median of {ROUNDS} interleaved rounds",
            )


def _once(python: Sequence[object], code: str, _number: int) -> Reading:
    reading: Reading = json.loads(run([*map(str, python), "-c", code + _REPORT]).output)
    return reading
