"""Interleaved rounds (A B A B ...) and their medians, so that a busy minute hits both sides; it starts no process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

Reading = Mapping[str, float]
"""What one contestant did in one round, by name of the quantity."""


def interleave(contestants: Mapping[str, Callable[[int], Reading]], rounds: int) -> dict[str, list[Reading]]:
    """Call every contestant once in each round, in the given order; the argument is the number of the round from 0.

    A round 0 that warms up is the caller's business: every reading counts here.
    """
    readings: dict[str, list[Reading]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, measure in contestants.items():
            readings[name].append(measure(number))
    return readings


def medians(readings: Sequence[Reading]) -> dict[str, float]:
    """The median of each quantity. All readings must have the same quantities."""
    names = set(readings[0])
    if any(set(reading) != names for reading in readings):
        raise ValueError("the readings of one contestant name different quantities")
    return {name: median(reading[name] for reading in readings) for name in sorted(names)}


def spread(readings: Sequence[Reading], name: str) -> str:
    """``low..high`` of one quantity, for ``Figure.conditions``."""
    values = [reading[name] for reading in readings]
    return f"{min(values):.3g}..{max(values):.3g}"
