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
SIDES = {"runtime": "import lsbuild_runtime.app", "server": "import lsbuild_runtime.serve.main"}
"""What Lambda needs, and what a device needs: the second has asyncio and uvicorn as well."""
PAIRS = {
    "runtime_vs_openai": ("runtime", "import openai"),
    "runtime_vs_fastapi": ("runtime", "import fastapi, pydantic"),
    "server_vs_fastapi": ("server", "import fastapi, pydantic, uvicorn"),
}
NAMES = tuple(f"import_{pair}_{quantity}" for pair in PAIRS for quantity in ("cpu", "rss"))
BUDGETS = {("runtime", "cpu"): Budget(50.0), ("runtime", "rss"): Budget(25.0)}


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """CPU time above that of an empty interpreter started the same way; memory in all. No model, no onnxruntime."""
    root = builds.search()
    path = f"import sys; sys.path[:0] = [{str(root / 'app')!r}, {str(root / 'site')!r}]\n"
    mine, theirs = [sys.executable, "-I", "-S", "-B"], [str(peer_python()), "-I"]
    pairs = {
        name: pair for name, pair in PAIRS.items() if any(wanted.startswith(f"import_{name}_") for wanted in names)
    }
    contestants = {
        "ours empty": partial(_once, mine, path),
        "peer empty": partial(_once, theirs, ""),
        **{side: partial(_once, mine, path + SIDES[side]) for side, _ in pairs.values()},
        **{text: partial(_once, theirs, text) for _, text in pairs.values()},
    }
    middle = {name: medians(each) for name, each in interleave(contestants, ROUNDS).items()}
    for name, (side, text) in pairs.items():
        for quantity, unit in (("cpu", "CPU-ms"), ("rss", "MB")):
            scale, empty = (1000.0, 1.0) if quantity == "cpu" else (1.0, 0.0)
            yield Figure(
                name=f"import_{name}_{quantity}",
                ours=scale * (middle[side][quantity] - empty * middle["ours empty"][quantity]),
                peer=scale * (middle[text][quantity] - empty * middle["peer empty"][quantity]),
                unit=unit,
                better="lower",
                peer_name=text,
                budget=BUDGETS.get((side, quantity)),
                conditions=f"{SIDES[side]}, compiled bytecode on both sides, median of {ROUNDS} interleaved rounds",
            )


def _once(python: Sequence[object], code: str, _number: int) -> Reading:
    reading: Reading = json.loads(run([*map(str, python), "-c", code + _REPORT]).output)
    return reading
