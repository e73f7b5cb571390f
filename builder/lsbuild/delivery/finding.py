"""Finds out what an artifact is and whether its target can do with it what is asked; does nothing itself."""

from __future__ import annotations

from pathlib import Path

from lsbuild import inspection
from lsbuild.api import Target
from lsbuild.errors import TargetError


def target_with(artifact: Path, method: str, said: str, wanted: str | None = None) -> Target:
    """The target of ``artifact``, which has ``method`` and, where it is given, the name ``wanted``.

    Raises VerifyError, and TargetError ("are not " + ``said``).
    """
    target = inspection.inspect(artifact).target
    if wanted is not None and target.name != wanted:
        raise TargetError(f"this is an artifact of target {target.name}, not {wanted}", where=str(artifact))
    if not hasattr(target, method):
        raise TargetError(
            f"artifacts of target {target.name} are not {said}",
            where=str(artifact),
            hint="docs/targets.md says how it gets to where it runs",
        )
    return target
