"""The line and the JSON entry of a figure, and how its budget is judged."""

from __future__ import annotations

import pytest
from bench.figure import Budget, Figure, number


def test_a_line_names_both_sides_and_their_ratio() -> None:
    figure = Figure("decode_int4_1t", 90.0, "tokens/s", "higher", 120.0, "llama.cpp Q4_0")
    assert figure.line() == "decode_int4_1t ours=90.0 peer=120 ratio=0.750 tokens/s"


def test_without_a_peer_the_ratio_is_to_the_budget() -> None:
    figure = Figure("compile_warm", 0.5, "s", "lower", budget=Budget(2.0))
    assert figure.line() == "compile_warm ours=0.500 peer=- ratio=0.250 s"


def test_without_peer_and_budget_there_is_no_ratio() -> None:
    figure = Figure("compile_warm_cpu", 12.345, "CPU-s", "lower")
    assert figure.line() == "compile_warm_cpu ours=12.3 peer=- ratio=- CPU-s"
    assert figure.met is None


@pytest.mark.parametrize(
    ("better", "ours", "budget", "met"),
    [
        ("lower", 0.9, Budget(1.0), True),
        ("lower", 1.1, Budget(1.0), False),
        ("higher", 1600.0, Budget(1500.0), True),
        ("higher", 80.0, Budget(0.9, "ratio"), False),
        ("higher", 90.0, Budget(0.9, "ratio"), True),
    ],
)
def test_a_budget_limits_our_figure_or_the_ratio(better: str, ours: float, budget: Budget, met: bool) -> None:
    assert Figure("x", ours, "u", better, 100.0, "p", budget).met is met  # type: ignore[arg-type]


def test_the_json_entry_has_what_a_reader_needs() -> None:
    entry = Figure("x", 1.0, "s", "lower", 2.0, "p", Budget(3.0), "quiet").to_json()
    assert entry == {
        "name": "x",
        "ours": 1.0,
        "unit": "s",
        "better": "lower",
        "peer": 2.0,
        "peer_name": "p",
        "budget": {"limit": 3.0, "of": "ours"},
        "conditions": "quiet",
        "ratio": 0.5,
        "met": True,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (12345.6, "12346"), (99.96, "100.0"), (1.234, "1.23"), (0.0123, "0.012"), (-5, "-5.00")],
)
def test_numbers_have_no_exponent(value: float | None, text: str) -> None:
    assert number(value) == text
