"""Results as text for people and as JSON for programs; it prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lsbuild.evals.gates import misses, worst
from lsbuild.evals.measure import AGENT, STANDARD
from lsbuild.evals.result import Asked, Result

Gates = Mapping[str, Mapping[str, float]]


def to_dict(results: Mapping[str, Result], gates: Gates, unasked: Mapping[str, str]) -> dict[str, Any]:
    """For ``--json``: every result with its gates, and what was missed."""
    missed = [miss for name, result in results.items() for miss in misses(name, gates.get(name, {}), result)]
    return {
        "ok": not missed,
        "evals": {
            name: {**msgspec.to_builtins(result), "gates": dict(gates.get(name, {}))}
            for name, result in results.items()
        },
        "missed": [
            {"eval": miss.eval, "metric": miss.metric, "value": miss.value, "gate": miss.gate} for miss in missed
        ],
        "not_asked": dict(unasked),
    }


def to_text(results: Mapping[str, Result], gates: Gates, unasked: Mapping[str, str], each: bool) -> str:
    """A table for each evaluation; then every question (``each``) or the worst of those that missed a gate."""
    parts = [_part(name, result, gates.get(name, {}), each) for name, result in results.items()]
    parts += [f"{name}: not asked, {why}" for name, why in unasked.items()]
    return "\n\n".join(parts) or "this spec has no evals"


def _part(name: str, result: Result, gates: Mapping[str, float], each: bool) -> str:
    what = f"store {result.target}" if result.api == "vector_io" else f"agent {result.target}"
    asked = f"{result.questions} questions" + (f", {result.unanswerable} without answer" if result.unanswerable else "")
    rows: list[tuple[str, str, Mapping[str, float]]] = [("measured", result.mode or "all", result.metrics)]
    rows += [("gate", "gate", gates)] if gates else []
    rows += [("group", f"  {group}", metrics) for group, metrics in result.groups.items()]
    rows += [("mode", mode, metrics) for mode, metrics in result.modes.items()]
    width = max(len(label) for _, label, _ in rows)
    known = [name for name in (*STANDARD, *AGENT) if name in result.metrics]
    columns = [*known, *(name for name in result.metrics if name not in known)]
    lines = [f"{name}: {what}, {asked}", " " * width + "".join(f"  {column:>10}" for column in columns)]
    lines += [
        f"{label:<{width}}" + "".join(f"  {_number(metrics, column):>10}" for column in columns)
        for _, label, metrics in rows
    ]
    missed = misses(name, gates, result)
    lines += [f"MISSED  {miss}" for miss in missed]
    if each:
        lines += [line for one in result.asked for line in _question(one)]
    elif missed:
        lines += ["the worst questions:", worst(result)]
    return "\n".join(lines)


def _number(metrics: Mapping[str, float], column: str) -> str:
    return f"{metrics[column]:.3f}" if column in metrics else ""


def _question(one: Asked) -> list[str]:
    ranks = ",".join("-" if rank is None else str(rank) for rank in one.ranks)
    lines = [f"  {one.score:.2f}  {one.question}" + (f"  [{ranks}]" if ranks else "")]
    lines += [f"        expected  {expected}" for expected in one.expected] if one.score < 1 else []
    lines += [f"        came      {', '.join(one.came) or 'nothing'}"]
    lines += [f"        said      {' '.join(one.said.split())}"] if one.said else []
    return lines
