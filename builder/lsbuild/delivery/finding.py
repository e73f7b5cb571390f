"""Finds out what an artifact is and whether its target can do with it what is asked; does nothing itself."""

from __future__ import annotations

from pathlib import Path

from lsbuild import inspection
from lsbuild.api import Target
from lsbuild.errors import TargetError


def target_with(artifact: Path, method: str, said: str) -> Target:
    """The target of ``artifact``, which has ``method``. Raises VerifyError, and TargetError ("are not " + ``said``)."""
    target = inspection.inspect(artifact).target
    if not hasattr(target, method):
        raise TargetError(
            f"artifacts of target {target.name} are not {said}",
            where=str(artifact),
            hint="docs/targets.md says how it gets to where it runs",
        )
    return target
