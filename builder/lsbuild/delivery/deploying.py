"""Finds out what an artifact is and has its target deploy it; what deploying means is the target's affair."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from lsbuild.api import Deployment, Deploys, Json
from lsbuild.delivery.finding import target_with
from lsbuild.errors import TargetError


def order(variables: Iterable[str], **values: Any) -> Deployment:
    """A Deployment; ``variables`` are ``NAME=VALUE`` or the NAME of one of this process. TargetError for one that is not set."""
    environment = {}
    for each in variables:
        name, given, value = each.partition("=")
        if not given and name not in os.environ:
            raise TargetError(f"the variable {name} is not set here", hint=f"set it, or say --env {name}=VALUE")
        environment[name] = value if given else os.environ[name]
    return Deployment(environment=environment, **values)


def deploy(artifact: Path, wanted: str | None, order: Deployment, say: Callable[[str], None]) -> Mapping[str, Json]:
    """Deploy ``artifact``; ``wanted`` is the target that it has to be of, or None. Raises VerifyError, TargetError."""
    target = target_with(artifact, "deploy", "deployed from here", wanted)
    return cast("Deploys", target).deploy(artifact, order, say)
