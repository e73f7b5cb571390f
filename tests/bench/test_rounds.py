"""Rounds are interleaved and their medians taken per quantity."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bench.machine import busy_seconds, phrase
from bench.rounds import Reading, interleave, medians, spread


def test_contestants_take_turns() -> None:
    order: list[str] = []

    def contestant(name: str) -> Reading:
        order.append(name)
        return {"speed": float(len(order))}

    readings = interleave({"a": lambda n: contestant(f"a{n}"), "b": lambda n: contestant(f"b{n}")}, 3)
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert readings == {
        "a": [{"speed": 1.0}, {"speed": 3.0}, {"speed": 5.0}],
        "b": [{"speed": n} for n in (2.0, 4.0, 6.0)],
    }


def test_one_wild_round_does_not_move_the_median() -> None:
    readings = [{"wall": 1.0, "cpu": 5.0}, {"wall": 90.0, "cpu": 6.0}, {"wall": 2.0, "cpu": 7.0}]
    assert medians(readings) == {"wall": 2.0, "cpu": 6.0}
    assert spread(readings, "wall") == "1..90"


def test_readings_of_different_quantities_are_refused() -> None:
    with pytest.raises(ValueError, match="different quantities"):
        medians([{"wall": 1.0}, {"cpu": 1.0}])


@pytest.mark.parametrize(("load", "others", "noisy"), [(0.4, 0.1, False), (1.6, 0.0, True), (0.4, 0.9, True)])
def test_conditions_warn_of_a_busy_machine(load: float, others: float, noisy: bool) -> None:
    text = phrase(load, others, 2)
    assert text.startswith("NOISY: ") is noisy
    assert f"load {load:.1f} before, others used {others:.1f} of 2 CPUs" in text


def test_busy_time_leaves_idle_out(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 9000 500 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    assert busy_seconds(stat) == (100 + 20 + 30 + 6 + 7 + 8) / os.sysconf("SC_CLK_TCK")
