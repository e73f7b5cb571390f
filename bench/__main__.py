"""``python -m bench [ONLY]``: measures the figures whose names begin with ONLY, prints each, writes results/latest.json."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.figure import Figure
from bench.machine import Noise, describe
from bench.worker import BenchError

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"
GROUPS = (
    "compiling",
    "imports",
    "starting",
    "functions",
    "proxy",
    "ogx",
    "decode",
    "embeddings",
    "reranking",
    "retrieval",
    "ingestion",
    "safety",
    "words",
    "structured",
    "finding",
    "size",
)
"""Modules of this package, in the order in which they run. Each has NAMES, every figure it can give, and
``measure(names) -> Iterable[Figure]``, which gives those that are wanted. One may have ON_REQUEST, the beginning of the
names that ONLY has to spell out, since they take long, and ``report() -> str``, to be printed after its figures."""

Measure = Callable[[tuple[str, ...]], Iterable[Figure]]


@dataclass(frozen=True, slots=True)
class Group:
    """A module with the figures of it that are wanted."""

    module: str
    names: tuple[str, ...]
    measure: Measure
    report: Callable[[], str] | None


def select(only: str) -> tuple[Group, ...]:
    """The groups that have figures whose names begin with ``only``."""
    modules = [(name, import_module(f"bench.{name}")) for name in GROUPS]
    groups = (
        Group(name, wanted(module, only), module.measure, getattr(module, "report", None)) for name, module in modules
    )
    return tuple(group for group in groups if group.names)


def wanted(module: ModuleType, only: str) -> tuple[str, ...]:
    """The figures of a group whose names begin with ``only``; those on request when ``only`` is long enough to mean them."""
    late = getattr(module, "ON_REQUEST", None)
    return tuple(
        name
        for name in module.NAMES
        if name.startswith(only) and (late is None or not name.startswith(late) or only.startswith(late))
    )


def figures(group: Group) -> Iterator[Figure]:
    """Measure one group and say how noisy the machine was meanwhile; other names than the wanted ones are dropped."""
    noise = Noise()
    measured = [figure for figure in group.measure(group.names) if figure.name in group.names]
    said = noise.report()
    for figure in measured:
        yield replace(figure, conditions=f"{figure.conditions}; {said}" if figure.conditions else said)


def write(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` as JSON beside ``path`` and move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def main(arguments: list[str]) -> int:
    """Exit code 0 when every wanted figure was measured, 1 when one was not, 2 when there is none of that name."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="measure only figures whose names begin with this")
    only = parser.parse_args(arguments).only
    groups = select(only)
    if not groups:
        names = sorted(name for group in select("") for name in group.names)
        print(f"no figure begins with {only!r}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    machine, date = describe(), datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
    done: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for group in groups:
        try:
            for figure in figures(group):
                print(figure.line(), flush=True)
                done.append(figure.to_json())
            if group.report is not None:
                print(group.report(), flush=True)
        except (BenchError, OSError, KeyError, ValueError) as error:
            failed[group.module] = f"{type(error).__name__}: {error}"
            print(f"{group.module}: not measured: {failed[group.module]}", file=sys.stderr, flush=True)
        write(RESULTS, {"date": date, "machine": machine.to_json(), "figures": done, "failed": failed})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
