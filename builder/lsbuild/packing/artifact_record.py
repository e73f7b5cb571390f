"""``artifact.json`` in an artifact that is a folder: what it is made of, for those who verify, deploy and install it.

Each target has a record of its own; here is how any of them is written and found again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lsbuild.errors import VerifyError

FILE = "artifact.json"
T = TypeVar("T")


def to_json(target: str, record: dict[str, Any]) -> bytes:
    """Sorted, with a final newline."""
    return json.dumps({"target": target, **record}, indent=2, sort_keys=True).encode() + b"\n"


def read(artifact: Path, target: str, make: Callable[[dict[str, Any]], T]) -> T | None:
    """The record in the folder ``artifact``, as ``make`` reads its keys; None when ``target`` did not make it.

    VerifyError for one that is damaged.
    """
    place = artifact / FILE
    try:
        value: dict[str, Any] = json.loads(place.read_bytes())
    except OSError:
        return None
    except ValueError as error:
        raise VerifyError(f"is not readable: {error}", where=str(place), hint="build it again") from error
    if not isinstance(value, dict) or value.pop("target", None) != target:
        return None
    try:
        return make(value)
    except (KeyError, TypeError) as error:
        raise VerifyError(f"is not as it was written: {error}", where=str(place), hint="build it again") from error
