"""References to models: from routes, agents, stores and judges, each of which needs one of a type; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lsbuild.errors import Problem
from lsbuild.spec.marks import Node
from lsbuild.spec.references.tree import Reference, candidates, named, section, text, way

_TYPES = {"llm": "an llm", "embedding": "an embedding model", "rerank": "a rerank model"}
_AROUND = {"embedding": ("embedding", "a vector store"), "rerank": ("rerank", "rerank"), "rewrite": ("llm", "rewrite")}
"""Keys of a store that name a model -> the type it must have, and who needs it."""

Types = Mapping[str, str | None]
"""The models of a spec, each with its type; None: it has none, which is told elsewhere."""


def types_of(tree: Node) -> Types:
    """See Types."""
    return {name: text(node.map.get("type")) for name, node in section(tree, "models").items()}


def routes(tree: Node) -> Iterator[Problem]:
    """A route leads to other models of its own type, and in no circle."""
    types, agents, models = types_of(tree), section(tree, "agents"), section(tree, "models")
    asked = {name: list(candidates(model, ("models", name), "model")) for name, model in models.items()}
    leads = {name: [each.name for each in found] for name, found in asked.items()}
    for name, found in asked.items():
        for each in found:
            if each.name in agents:
                yield each.fault(f"'{each.name}' is an agent; a route leads to models")
            elif each.name not in types:
                yield each.missing("model", [known for known in types if known != name])
            elif each.name == name:
                yield each.fault("a route cannot lead to itself")
            elif circle := way(leads, each.name, name):
                yield each.fault(f"these routes lead in a circle: {' -> '.join((name, *circle))}")
            elif types[name] in _TYPES:
                yield from typed(each, types, types[name] or "", "this route")


def agents(tree: Node) -> Iterator[Problem]:
    """An agent's model is an llm, or another agent."""
    types, others = types_of(tree), section(tree, "agents")
    for name, agent in others.items():
        for model in named(agent, ("agents", name), "model"):
            if model.name == name:
                yield model.fault("an agent cannot be its own model")
            elif model.name not in types and model.name not in others:
                yield model.missing("model", types)
            else:
                yield from typed(model, types, "llm", "an agent")


def stores(tree: Node) -> Iterator[Problem]:
    """A store embeds with one model, and may rank and rewrite with others."""
    types = types_of(tree)
    for name, store in section(tree, "vector_stores").items():
        for key, (wanted, who) in _AROUND.items():
            for model in named(store, ("vector_stores", name), key):
                yield from known(model, types, wanted, who)


def judges(tree: Node) -> Iterator[Problem]:
    """A judge's model is an llm, and no route: its candidates would be asked behind the shields, and so the judge itself."""
    types, models = types_of(tree), section(tree, "models")
    for name, shield in section(tree, "shields").items():
        for model in named(shield, ("shields", name), "model"):
            if problems := list(known(model, types, "llm", "a judge")):
                yield from problems
            elif "route" in models[model.name].map:
                message = f"'{model.name}' is a route; name one model, and put two judges into a route of shields"
                yield model.fault(message)


def known(model: Reference, types: Types, wanted: str, who: str) -> Iterator[Problem]:
    """A model that is not there, or of another type than ``who`` needs."""
    if model.name not in types:
        yield model.missing("model", [name for name, kind in types.items() if kind == wanted])
    else:
        yield from typed(model, types, wanted, who)


def typed(model: Reference, types: Types, wanted: str, who: str) -> Iterator[Problem]:
    """A model of another type than ``who`` needs."""
    kind = types.get(model.name) or ""
    if kind in _TYPES and kind != wanted:
        yield model.fault(f"'{model.name}' is {_TYPES[kind]}; {who} needs type: {wanted}")
