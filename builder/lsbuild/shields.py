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
    """What the items compiled to; each service that answers chats needs its shields, ``safety/NAME``, in their order.

    The runtime puts what a service needs of that API before it.
    """
    found: dict[tuple[str, str], Compiled] = {}
    for (kind, name), each in compiled.items():
        own = spec.agents[name].shields if kind == "agents" else ()
        needs = tuple(f"safety/{shield}" for shield in dict.fromkeys((*spec.server.shields, *own)))
        found[kind, name] = replace(each, services=tuple(_behind(service, needs) for service in each.services))
    return found


def _behind(service: Service, needs: tuple[str, ...]) -> Service:
    if not needs or service.api not in _SHIELDED:
        return service
    return msgspec.structs.replace(service, needs=(*service.needs, *needs))
