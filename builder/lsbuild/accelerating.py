"""What a target's accelerator changes for items: other wheels in place of some, and services that are told where to run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

import msgspec
from pydantic import BaseModel

from lsbuild.api import CPU_ONLY, Accelerates, Accelerator, Compiled, Json, Service, Target
from lsbuild.prune import normalised

EXECUTION = "execution"
"""The key of a service's config that says where it runs."""
Items = Mapping[tuple[str, str], Compiled]


def find(target: Target, options: BaseModel) -> Accelerator | None:
    """The accelerator of a target with these options; None where models run on the CPU alone."""
    return cast("Accelerates", target).accelerator(options) if hasattr(target, "accelerator") else None


def providers(accelerator: Accelerator | None) -> tuple[str, ...]:
    """See Given.providers."""
    return accelerator.providers if accelerator else CPU_ONLY


def requirements(wanted: Iterable[str], accelerator: Accelerator | None) -> set[str]:
    """``wanted`` with what stands in the place of some."""
    replaces = accelerator.replaces if accelerator else {}
    return {each for one in wanted for each in replaces.get(_distribution(one), (one,))}


def told(compiled: Items, accelerator: Accelerator | None) -> Items:
    """``compiled`` with the services of those that require what is replaced told where to run."""
    if accelerator is None:
        return compiled
    execution = {**accelerator.settings, "providers": list(accelerator.providers)}
    return {
        path: replace(each, services=tuple(_told(service, execution) for service in each.services))
        if any(_distribution(wheel) in accelerator.replaces for wheel in each.wheels)
        else each
        for path, each in compiled.items()
    }


def opened_at_start(services: Iterable[Service]) -> tuple[str, ...]:
    """Services ("api/name") that are opened when the server starts: what they find there may take long, or be nothing."""
    return tuple(f"{service.api}/{service.name}" for service in services if EXECUTION in service.config)


def _told(service: Service, execution: Mapping[str, Json]) -> Service:
    own = service.config.get(EXECUTION, {})
    return msgspec.structs.replace(service, config={**service.config, EXECUTION: {**execution, **own}})


def _distribution(requirement: str) -> str:
    return normalised(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
