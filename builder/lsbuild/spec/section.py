"""How every part of a spec treats its keys."""

from __future__ import annotations

from pydantic import ConfigDict

CONFIG = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=False)
"""Unknown keys are errors, values do not change."""
