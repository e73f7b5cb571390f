"""Group ``compile_*``: the quickstart from an empty cache and with nothing changed, and one language model's step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from bench.artefacts import FORMATS
from bench.builds import build, forget_outputs, quickstart_spec
from bench.environment import CACHE, ours, peer
from bench.figure import Budget, Figure
from bench.models import llm_135m
from bench.rounds import Reading, interleave, medians
from bench.worker import Cost, run

COLD_ROUNDS, WARM_ROUNDS, MODEL_ROUNDS = 2, 5, 3
_LLM = "compile_llm_135m"
NAMES = ("compile_cold", "compile_cold_cpu", "compile_warm", "compile_warm_cpu", _LLM, f"{_LLM}_cpu", f"{_LLM}_rss")


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """Each build is a process of its own: start of the interpreter and imports count."""
    if any(not name.startswith(_LLM) for name in names):
        yield from _quickstart()
    if any(name.startswith(_LLM) for name in names):
        yield from _model()


def _quickstart() -> Iterator[Figure]:
    spec, out = quickstart_spec(), CACHE / "quickstart-host"
    build(spec, out)

    def cold(_number: int) -> Reading:
        forget_outputs()
        shutil.rmtree(out)
        return _times(build(spec, out).cost)

    def warm(_number: int) -> Reading:
        return _times(build(spec, out).cost)

    cases: Mapping[str, tuple[Callable[[int], Reading], int, float, str]] = {
        "compile_cold": (cold, COLD_ROUNDS, 30.0, "quickstart, empty cache, wheels and MiniLM fetched before"),
        "compile_warm": (warm, WARM_ROUNDS, 1.0, "quickstart, nothing changed, artifact written again"),
    }
    for name, (once, rounds, limit, what) in cases.items():
        middle = medians(interleave({"ours": once}, rounds)["ours"])
        said = f"{what}, median of {rounds}, interpreter start included"
        yield Figure(name, middle["wall"], "s", "lower", budget=Budget(limit), conditions=said)
        yield Figure(f"{name}_cpu", middle["cpu"], "CPU-s", "lower", conditions=said)


def _model() -> Iterator[Figure]:
    source = llm_135m(CACHE)

    def compiled(number: int) -> Reading:
        return _step(ours("compile_model", "decoder", source, "int4", _fresh(CACHE / f"timed-{number}")))

    def converted(_number: int) -> Reading:
        return _step(peer("quantise", source, CACHE / "timed.gguf", FORMATS["int4"]))

    readings = interleave({"ours": compiled, "peer": converted}, MODEL_ROUNDS)
    for number in range(MODEL_ROUNDS):
        shutil.rmtree(CACHE / f"timed-{number}")
    (CACHE / "timed.gguf").unlink()
    middle = {name: medians(each) for name, each in readings.items()}
    units = {"wall": ("", "s", None), "cpu": ("_cpu", "CPU-s", Budget(3.0)), "rss": ("_rss", "MB", Budget(200.0))}
    for quantity, (suffix, unit, budget) in units.items():
        yield Figure(
            name=_LLM + suffix,
            ours=middle["ours"][quantity],
            peer=middle["peer"][quantity],
            unit=unit,
            better="lower",
            peer_name="gguf-py and libllama: bfloat16 to F16 to Q4_0",
            budget=budget,
            conditions=(
                f"135M bfloat16 checkpoint to int4, quality gate and interpreter start included, "
                f"median of {MODEL_ROUNDS} interleaved rounds"
            ),
        )


def _times(cost: Cost) -> Reading:
    return {"wall": cost.wall_s, "cpu": cost.cpu_s}


def _step(command: list[str]) -> Reading:
    cost = run(command)
    return {**_times(cost), "rss": json.loads(cost.output.splitlines()[-1])["peak_mb"]}


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
