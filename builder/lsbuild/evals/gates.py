"""Holds what was measured against the gates of the spec; a miss fails the build before anything is packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lsbuild.errors import GateError
from lsbuild.evals.result import Result

WORST = 5
"""Questions that the error names."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A measure below its gate."""

    eval: str
    metric: str
    value: float
    gate: float

    def __str__(self) -> str:
        return f"{self.metric} is {self.value:.4g}, the gate is {self.gate:.4g}"


def misses(name: str, gates: Mapping[str, float], result: Result) -> list[Miss]:
    """The gates that ``result`` does not reach; a measure that could not be taken counts as 0."""
    found = [Miss(name, metric, result.metrics.get(metric, 0.0), gate) for metric, gate in gates.items()]
    return [miss for miss in found if miss.value < miss.gate]


def require(gates: Mapping[str, Mapping[str, float]], results: Mapping[str, Result]) -> None:
    """Raise GateError with every miss of the first evaluation that has one, and its worst questions."""
    for name, result in results.items():
        missed = misses(name, gates.get(name, {}), result)
        if missed:
            raise GateError(
                "; ".join(map(str, missed)) + "\n" + worst(result),
                where=f"evals.{name}",
                hint="Improve the store, correct the questions, or lower the gate. `lsbuild eval SPEC --each` prints "
                "every question.",
            )


def worst(result: Result, most: int = WORST) -> str:
    """The worst questions with what was expected and what came, indented."""
    lines = []
    for asked in result.worst(most):
        lines += [f"  {asked.question}", f"    expected  {'; '.join(asked.expected)}"]
        lines += [f"    came      {', '.join(asked.came) or 'nothing'}"]
        lines += [f"    said      {asked.said[:160]!r}"] if asked.said else []
    return "\n".join(lines)
