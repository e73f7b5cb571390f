"""Puts the shields of a spec before its models and agents, whoever provides them; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from lsbuild.api import Compiled, Service
from lsbuild.spec.model import Spec

_SHIELDED = ("inference", "agents")
"""The APIs whose services answer chats."""


def placed(compiled: Mapping[tuple[str, str], Compiled], spec: Spec) -> dict[tuple[str, str], Compiled]:
    """What the items compiled to; each service that answers chats needs its shields, ``safety/NAME``.

    The cheapest come first: rules before classifiers, other servers and judges; the spec's order holds among equals. The
    runtime puts what a service needs of that API before it.
    """
    found: dict[tuple[str, str], Compiled] = {}
    for (kind, name), each in compiled.items():
        own = spec.agents[name].shields if kind == "agents" else ()
        shields = sorted(dict.fromkeys((*spec.server.shields, *own)), key=lambda shield: _cost(compiled, shield))
        needs = tuple(f"safety/{shield}" for shield in shields)
        services = tuple(_behind(service, needs) for service in each.services)
        if kind == "shields" and spec.shields[name].fail == "open":
            services = tuple(_failing_open(service) for service in services)
        found[kind, name] = replace(each, services=services)
    return found


def _cost(compiled: Mapping[tuple[str, str], Compiled], shield: str) -> int:
    services = compiled["shields", shield].services if ("shields", shield) in compiled else ()
    return max((int(service.metadata.get("cost", 0)) for service in services), default=0)


def _failing_open(service: Service) -> Service:
    return msgspec.structs.replace(service, config={**service.config, "fail": "open"})


def _behind(service: Service, needs: tuple[str, ...]) -> Service:
    if not needs or service.api not in _SHIELDED:
        return service
    return msgspec.structs.replace(service, needs=(*service.needs, *needs))
