"""Sizes, times and names as a user writes them, and how they are written back; they know no key of the spec."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

_SIZE = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TIME = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _quantity(value: object, units: dict[str, float] | dict[str, int], example: str) -> object:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"expected a number with a unit ({', '.join(units)}), like {example}")
    return float(match[1]) * units[match[2]]


def _bytes(value: object) -> object:
    quantity = _quantity(value, _SIZE, "64MiB")
    return round(quantity) if isinstance(quantity, float) else quantity


def _seconds(value: object) -> object:
    return _quantity(value, _TIME, "30s")


def _spelled(number: float, units: dict[str, float] | dict[str, int]) -> str:
    """The shortest exact spelling, so that a resolved spec can be loaded again."""
    spellings = [(number / size, unit) for unit, size in units.items()]
    texts = [(value, f"{value:.15f}".rstrip("0").rstrip("."), unit) for value, unit in spellings]
    exact = [
        (value < 1, len(text), f"{text}{unit}") for value, text, unit in texts if float(text) * units[unit] == number
    ]
    return min(exact, default=(False, 0, f"{number}{next(iter(units))}"))[2]


def _spelled_bytes(number: int) -> str:
    return _spelled(number, _SIZE) if number else "0B"


def _spelled_seconds(number: float) -> str:
    return _spelled(number, _TIME) if number else "0s"


Bytes = Annotated[
    int, BeforeValidator(_bytes, json_schema_input_type=str), PlainSerializer(_spelled_bytes, when_used="json")
]
"""Written ``1MiB`` or ``220MB``; held as a number of bytes."""
Seconds = Annotated[
    float, BeforeValidator(_seconds, json_schema_input_type=str), PlainSerializer(_spelled_seconds, when_used="json")
]
"""Written ``30s`` or ``800ms``; held as seconds."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")]
"""What clients use as an id: a lower-case letter, then letters, digits, ``_ . -``; at most 63."""
