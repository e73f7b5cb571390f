"""Finds out what an artifact is and has its target install it on a machine behind ssh; how is the target's affair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from lsbuild import inspection
from lsbuild.api import Installed, Pushes
from lsbuild.delivery.remote import Remote
from lsbuild.errors import TargetError


def push(artifact: Path, remote: Remote, say: Callable[[str], None]) -> Installed:
    """Install ``artifact`` and wait until it serves. Raises VerifyError, TargetError."""
    target = inspection.inspect(artifact).target
    if not hasattr(target, "push"):
        raise TargetError(
            f"artifacts of target {target.name} are not installed over ssh",
            where=str(artifact),
            hint="docs/targets.md says how it gets to where it runs",
        )
    return cast("Pushes", target).push(artifact, remote, say)
