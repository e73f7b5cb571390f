"""Names in a spec that must lead somewhere: models, stores, providers, targets; pure.

It works on the tree, not on the validated Spec, so that a wrong name is reported beside every other fault. Here are the
sections whose names only have to be there; what else is asked of models and agents stands beside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lsbuild.errors import Problem
from lsbuild.spec import flows
from lsbuild.spec.kinds import KINDS
from lsbuild.spec.marks import Node, Path
from lsbuild.spec.references import agents, models
from lsbuild.spec.references.tree import Reference, candidates, listed, named, section, way
from lsbuild.suggest import did_you_mean


def check(tree: Node, *, targets: Collection[str], providers: Collection[str]) -> list[Problem]:
    """Every reference that leads nowhere or to the wrong kind of thing."""
    found = [*_names(tree), *models.routes(tree), *models.agents(tree), *models.stores(tree), *models.judges(tree)]
    found += [*agents.check(tree), *_evals(tree), *_shields(tree), *_shield_routes(tree), *flows.check(tree)]
    found += _targets(tree, targets)
    if not (plugins := tree.map.get("plugins")) or not plugins.list:
        found += _providers(tree, providers)
    return found


def _names(tree: Node) -> Iterator[Problem]:
    """Models, agents and workflows are all addressed as models; one tool is always there."""
    models_, agents_, workflows = (section(tree, kind).keys() for kind in ("models", "agents", "workflows"))
    for name in models_ & agents_:
        yield _key(tree, "agents", name, f"'{name}' is a model already; an agent is addressed as a model too")
    for kind, names in (("models", models_), ("agents", agents_)):
        for name in names & workflows:
            message = f"'{name}' is in {kind} already; a workflow is addressed as a model too"
            yield _key(tree, "workflows", name, message)
    if agents.SEARCH in section(tree, "tools"):
        message = (
            f"'{agents.SEARCH}' is the search of an agent's vector stores, which is always there; choose another name"
        )
        yield _key(tree, "tools", agents.SEARCH, message)


def _key(tree: Node, kind: str, name: str, message: str) -> Problem:
    """A fault of a name itself, at its own place."""
    return Problem((kind, name), message, tree.map[kind].keys[name].where)


def _evals(tree: Node) -> Iterator[Problem]:
    for name, entry in section(tree, "evals").items():
        for key, kind, what in (("store", "vector_stores", "vector store"), ("agent", "agents", "agent")):
            known = section(tree, kind)
            asked = named(entry, ("evals", name), key)
            yield from (each.missing(what, known) for each in asked if each.name not in known)


def _shields(tree: Node) -> Iterator[Problem]:
    known = section(tree, "shields")
    users: list[tuple[Path, Node]] = [(("agents", name), agent) for name, agent in section(tree, "agents").items()]
    if (server := tree.map.get("server")) is not None:
        users.append((("server",), server))
    for path, user in users:
        yield from (each.missing("shield", known) for each in listed(user, path, "shields") if each.name not in known)


def _shield_routes(tree: Node) -> Iterator[Problem]:
    shields = section(tree, "shields")
    asked = {name: list(candidates(shield, ("shields", name), "shield")) for name, shield in shields.items()}
    leads = {name: [each.name for each in found] for name, found in asked.items()}
    for name, found in asked.items():
        for each in found:
            if each.name == name:
                yield each.fault("a route cannot lead to itself")
            elif each.name not in shields:
                yield each.missing("shield", [known for known in shields if known != name])
            elif circle := way(leads, each.name, name):
                yield each.fault(f"these routes lead in a circle: {' -> '.join((name, *circle))}")


def _targets(tree: Node, known: Collection[str]) -> Iterator[Problem]:
    for name in section(tree, "targets"):
        if name not in known:
            yield _key(tree, "targets", name, f"unknown target '{name}'.{did_you_mean(name, known)}")


def _providers(tree: Node, known: Collection[str]) -> Iterator[Problem]:
    for kind in KINDS:
        for name, entry in section(tree, kind).items():
            yield from _unknown(named(entry, (kind, name), "provider"), known)
    if (state := section(tree, "server").get("state")) is not None:
        yield from _unknown(named(state, ("server", "state"), "provider"), (*known, "none"))


def _unknown(providers: Iterator[Reference], known: Collection[str]) -> Iterator[Problem]:
    for each in providers:
        if each.name not in known:
            yield each.fault(f"unknown provider '{each.name}'.{did_you_mean(each.name, known)}")
