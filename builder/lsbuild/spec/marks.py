from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: ``where`` is ``spec.yaml:12:5``, or the name of a variable or option."""

    where: str
    kind: Literal["file", "default", "target", "env", "param", "override"] = "file"
