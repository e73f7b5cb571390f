"""`inline::evals` for the builder: declares the step that measures a store or an agent; reads and asks nothing.

A step needs all that the store or agent is served with. Where a part of that is not compiled in (a remote model), the
build asks nothing, since that would leave this machine: `lsbuild eval --against` can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from lsbuild.api import Compiled, Given, Item, Json, Plugin, Problem, Service, Step
from lsbuild.evals.measure import AGENT, STANDARD
from lsbuild.evals.metrics import NAME
from lsbuild.spec.model import Eval

_CODE = (
    "lsbuild_plugins.evals",
    "lsbuild.evals",
    "lsbuild_runtime.services",
    "lsbuild_runtime.agents",
    "lsbuild_runtime.tools",
    "lsbuild_runtime.retrieve",
)


class Evals(Plugin):
    """The compile half of `inline::evals`."""

    provider = "inline::evals"
    kinds = ("evals",)

    def check(self, item: Item) -> Iterable[Problem]:
        """A store or an agent, and gates that can be measured."""
        spec = _spec(item)
        if (spec.store is None) == (spec.agent is None):
            yield Problem((), "name either a store or an agent")
            return
        if spec.agent is not None and spec.mode is not None:
            yield Problem(("mode",), "an agent searches as its stores do; only an evaluation of a store has a mode")
        for gate in spec.gates:
            if fault := _gate_fault(gate, spec):
                yield Problem(("gates", gate), fault)

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:
        """What is evaluated."""
        spec = _spec(item)
        return (("vector_stores", spec.store),) if spec.store else (("agents", spec.agent or ""),)

    def sources(self, item: Item) -> Mapping[str, str]:
        """The question set."""
        return {"questions": _spec(item).questions}

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step, or nothing when something that is needed is not compiled in, or could act."""
        services = {f"{each.api}/{each.name}": each for peer in given.peers.values() for each in peer.services}
        asked = services.get(f"vector_io/{_spec(item).store}" if _spec(item).store else f"agents/{_spec(item).agent}")
        if asked is None:
            return Compiled()
        used = _used(asked, services)
        if any(each.provider.startswith("remote::") or each.api == "tool_runtime" for each in used):
            return Compiled()  # a build leaves neither this machine nor anything done by a tool
        return Compiled(steps=(_step(item, used, given),))


PLUGIN = Evals()


def _spec(item: Item) -> Eval:
    return cast("Eval", item.spec)


def _gate_fault(gate: str, spec: Eval) -> str:
    if spec.agent is not None:
        return "" if gate in AGENT else f"an agent is measured by {', '.join(AGENT)}"
    if gate == "separation":
        return ""
    if not NAME.fullmatch(gate):
        return "a store is measured by recall@N, success@N, ndcg@N, mrr and separation"
    if int(gate.partition("@")[2] or 1) > spec.k:
        return f"only the first {spec.k} passages are looked at; raise k"
    return ""


def _used(service: Service, services: Mapping[str, Service]) -> tuple[Service, ...]:
    """``service`` and all it needs, those first."""
    found: dict[str, Service] = {}

    def visit(each: Service) -> None:
        for need in each.needs:
            if need in services:
                visit(services[need])
        found[f"{each.api}/{each.name}"] = each

    visit(service)
    return tuple(found.values())


def _step(item: Item, used: tuple[Service, ...], given: Given) -> Step:
    """Keyed by the questions, by every shipped output that is served, and by the serve halves that serve it."""
    spec = _spec(item)
    folders = {service.path for service in used if service.path}
    shipped = {step.ship: step.name for peer in given.peers.values() for step in peer.steps if step.ship in folders}
    options: dict[str, Json] = {
        "services": [msgspec.to_builtins(service) for service in used],
        "store": spec.store,
        "agent": spec.agent,
        "k": spec.k,
        "mode": spec.mode,
        "measures": sorted(set(spec.gates) - set(STANDARD) - {"separation"}) if spec.store else [],
    }
    wheels = {re.split(r"[^\w.-]", wheel, maxsplit=1)[0] for peer in given.peers.values() for wheel in peer.wheels}
    code = {name for peer in given.peers.values() for name in peer.code}
    return Step(
        name=f"{'.'.join(item.path)}.asked",
        run="lsbuild_plugins.evals.ask:run",
        options=options,
        sources={"questions": given.sources["questions"]},
        needs=shipped,
        tools=tuple(sorted(wheels)),
        code=(*_CODE, *sorted(code)),
        ship=f"evals/{item.name}",
        part="app",
    )
