"""Names in a spec that must lead somewhere: models, stores, providers, targets; pure.

It works on the tree, not on the validated Spec, so that a wrong name is reported beside every other fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from lsbuild.errors import Problem
from lsbuild.spec import flows
from lsbuild.spec.kinds import KINDS
from lsbuild.spec.marks import Node, Path
from lsbuild.suggest import did_you_mean

SEARCH = "file_search"
"""The search of an agent's own vector stores, among its tools."""


def check(tree: Node, *, targets: Collection[str], providers: Collection[str]) -> list[Problem]:
    """Every reference that leads nowhere or to the wrong kind of thing."""
    found = [*_names(tree), *_routes(tree), *_agents(tree), *_stores(tree), *_evals(tree), *_targets(tree, targets)]
    found += [*_shields(tree), *_tools(tree), *_rankers(tree), *flows.check(tree)]
    if not (plugins := tree.map.get("plugins")) or not plugins.list:
        found += _providers(tree, providers)
    return found


def _section(tree: Node, name: str) -> dict[str, Node]:
    section = tree.map.get(name)
    return dict(section.map) if section is not None else {}


def _text(node: Node | None) -> str | None:
    return node.value if node is not None and isinstance(node.value, str) else None


def _types(tree: Node) -> dict[str, str | None]:
    return {name: _text(node.map.get("type")) for name, node in _section(tree, "models").items()}


def _names(tree: Node) -> Iterator[Problem]:
    agents = tree.map.get("agents")
    for name in _section(tree, "models").keys() & _section(tree, "agents").keys():
        where = agents.keys[name].where if agents is not None else ""
        yield Problem(("agents", name), f"'{name}' is a model already; an agent is addressed as a model too", where)
    workflows = tree.map.get("workflows")
    for kind in ("models", "agents"):
        for name in _section(tree, kind).keys() & _section(tree, "workflows").keys():
            where = workflows.keys[name].where if workflows is not None else ""
            message = f"'{name}' is in {kind} already; a workflow is addressed as a model too"
            yield Problem(("workflows", name), message, where)


def _routes(tree: Node) -> Iterator[Problem]:
    types, agents = _types(tree), _section(tree, "agents")
    leads = {name: [model for _, model, _ in _candidates(model)] for name, model in _section(tree, "models").items()}
    for name, entry in _section(tree, "models").items():
        for index, model, node in _candidates(entry):
            path: Path = ("models", name, "route", index, "model")
            if model in agents:
                yield Problem(path, f"'{model}' is an agent; a route leads to models", node.origin.where)
            elif model not in types:
                known = [each for each in types if each != name]
                yield Problem(path, f"there is no model '{model}'.{did_you_mean(model, known)}", node.origin.where)
            elif model == name:
                yield Problem(path, "a route cannot lead to itself", node.origin.where)
            elif circle := _way(leads, model, name):
                way = " -> ".join((name, *circle))
                yield Problem(path, f"these routes lead in a circle: {way}", node.origin.where)
            elif types[model] in _KINDS and types[name] in _KINDS and types[model] != types[name]:
                message = f"'{model}' is {_KINDS[types[model] or '']}; this route needs type: {types[name]}"
                yield Problem(path, message, node.origin.where)


def _candidates(routed: Node, key: str = "model") -> Iterator[tuple[int, str, Node]]:
    """Place, name and node of each candidate that names a model, or what else the ``key`` is of."""
    for index, entry in enumerate(routed.map["route"].list if "route" in routed.map else ()):
        node = entry.map.get(key)
        name = _text(node)
        if node is not None and name is not None:
            yield index, name, node


def _way(leads: Mapping[str, Sequence[str]], start: str, end: str) -> tuple[str, ...]:
    """Names from ``start`` to ``end`` along routes, both included; nothing when there is no way."""
    open_: list[tuple[str, ...]] = [(start,)]
    seen = {start}
    while open_:
        way = open_.pop()
        if way[-1] == end:
            return way
        for following in leads.get(way[-1], ()):
            if following not in seen:
                seen.add(following)
                open_.append((*way, following))
    return ()


def _agents(tree: Node) -> Iterator[Problem]:
    types, agents, stores = _types(tree), _section(tree, "agents"), _section(tree, "vector_stores")
    for name, agent in agents.items():
        node = agent.map.get("model")
        model = _text(node)
        path: Path = ("agents", name, "model")
        if node is not None and model is not None:
            if model == name:
                yield Problem(path, "an agent cannot be its own model", node.origin.where)
            elif model not in types and model not in agents:
                yield Problem(path, f"there is no model '{model}'.{did_you_mean(model, types)}", node.origin.where)
            elif (kind := types.get(model)) in _KINDS and kind != "llm":
                yield Problem(path, f"'{model}' is {_KINDS[kind or '']}; an agent needs type: llm", node.origin.where)
        for index, store, entry in _texts(agent, "vector_stores"):
            if store not in stores:
                message = f"there is no vector store '{store}'.{did_you_mean(store, stores)}"
                yield Problem(("agents", name, "vector_stores", index), message, entry.origin.where)
        yield from _callable(tree, name, agent)


def _callable(tree: Node, name: str, agent: Node) -> Iterator[Problem]:
    """What an agent may call: tools, its own search, and other agents."""
    tools, agents = _section(tree, "tools"), _section(tree, "agents")
    for index, tool, entry in _texts(agent, "tools"):
        path: Path = ("agents", name, "tools", index)
        if tool == SEARCH:
            if not any(_texts(agent, "vector_stores")):
                message = f"{SEARCH} searches the agent's vector_stores, and it has none"
                yield Problem(path, message, entry.origin.where)
        elif tool in agents:
            yield Problem(path, f"'{tool}' is an agent; name it under 'agents'", entry.origin.where)
        elif tool not in tools:
            message = f"there is no tool '{tool}'.{did_you_mean(tool, (*tools, SEARCH))}"
            yield Problem(path, message, entry.origin.where)
    for index, other, entry in _texts(agent, "agents"):
        path = ("agents", name, "agents", index)
        if other == name:
            yield Problem(path, "an agent cannot ask itself", entry.origin.where)
        elif other not in agents:
            known = [each for each in agents if each != name]
            yield Problem(path, f"there is no agent '{other}'.{did_you_mean(other, known)}", entry.origin.where)
    own = [tool for _, tool, _ in _texts(agent, "tools")]
    for index, tool, entry in _texts(agent, "tainted"):
        if tool.partition(".")[0] not in own and tool not in own:
            message = f"'{tool}' is none of this agent's tools.{did_you_mean(tool, own)}"
            yield Problem(("agents", name, "tainted", index), message, entry.origin.where)


def _texts(entry: Node, key: str) -> Iterator[tuple[int, str, Node]]:
    """Place, text and node of each text in the list under ``key``."""
    for index, node in enumerate(entry.map[key].list if key in entry.map else ()):
        text = _text(node)
        if text is not None:
            yield index, text, node


_KINDS = {"llm": "an llm", "embedding": "an embedding model", "rerank": "a rerank model"}
_AROUND = (("embedding", "embedding", "a vector store"), ("rerank", "rerank", "rerank"), ("rewrite", "llm", "rewrite"))
"""Keys of a store that name a model, the type it must have, and who needs it."""


def _stores(tree: Node) -> Iterator[Problem]:
    types = _types(tree)
    for name, store in _section(tree, "vector_stores").items():
        for key, wanted, who in _AROUND:
            node = store.map.get(key)
            model = _text(node)
            if node is None or model is None:
                continue
            path: Path = ("vector_stores", name, key)
            if model not in types:
                fitting = [each for each, kind in types.items() if kind == wanted]
                yield Problem(path, f"there is no model '{model}'.{did_you_mean(model, fitting)}", node.origin.where)
            elif (kind := types[model]) in _KINDS and kind != wanted:
                message = f"'{model}' is {_KINDS[kind or '']}; {who} needs type: {wanted}"
                yield Problem(path, message, node.origin.where)


def _rankers(tree: Node) -> Iterator[Problem]:
    """An agent compares the scores of its stores: one model ranks them all again, or none does."""
    stores = _section(tree, "vector_stores")
    for name, agent in _section(tree, "agents").items():
        known = [(index, store, entry) for index, store, entry in _texts(agent, "vector_stores") if store in stores]
        ranked = [_text(stores[store].map.get("rerank")) for _, store, _ in known]
        for (index, store, entry), ranker in zip(known, ranked, strict=True):
            if ranker != ranked[0]:
                told = [f"by '{each}'" if each else "by no model" for each in (ranker, ranked[0])]
                message = (
                    f"'{store}' is ranked again {told[0]}, '{known[0][1]}' {told[1]}, and their scores cannot be compared; "
                    "give all stores of an agent the same rerank model, or none"
                )
                yield Problem(("agents", name, "vector_stores", index), message, entry.origin.where)


def _evals(tree: Node) -> Iterator[Problem]:
    for name, entry in _section(tree, "evals").items():
        for key, section in (("store", "vector_stores"), ("agent", "agents")):
            node = entry.map.get(key)
            asked = _text(node)
            known = _section(tree, section)
            if node is not None and asked is not None and asked not in known:
                message = f"there is no {section[:-1].replace('_', ' ')} '{asked}'.{did_you_mean(asked, known)}"
                yield Problem(("evals", name, key), message, node.origin.where)


def _shields(tree: Node) -> Iterator[Problem]:
    known = _section(tree, "shields")
    server = tree.map.get("server")
    users: list[tuple[Path, Node]] = [(("server",), server)] if server is not None else []
    users += [(("agents", name), agent) for name, agent in _section(tree, "agents").items()]
    for path, user in users:
        for index, entry in enumerate(user.map["shields"].list if "shields" in user.map else ()):
            shield = _text(entry)
            if shield is not None and shield not in known:
                message = f"there is no shield '{shield}'.{did_you_mean(shield, known)}"
                yield Problem((*path, "shields", index), message, entry.origin.where)
    yield from _judges(tree, known)
    yield from _shield_routes(known)


def _judges(tree: Node, shields: Mapping[str, Node]) -> Iterator[Problem]:
    """A judge's model is an llm, and no route: its candidates would be asked behind the shields, and so the judge itself."""
    models = _section(tree, "models")
    types = _types(tree)
    for name, shield in shields.items():
        node = shield.map.get("model")
        model = _text(node)
        if node is None or model is None:
            continue
        path: Path = ("shields", name, "model")
        if model not in models:
            fitting = [each for each, kind in types.items() if kind == "llm"]
            yield Problem(path, f"there is no model '{model}'.{did_you_mean(model, fitting)}", node.origin.where)
        elif (kind := types[model]) in _KINDS and kind != "llm":
            yield Problem(path, f"'{model}' is {_KINDS[kind or '']}; a judge needs type: llm", node.origin.where)
        elif "route" in models[model].map:
            message = f"'{model}' is a route; name one model, and put two judges into a route of shields"
            yield Problem(path, message, node.origin.where)


def _shield_routes(shields: Mapping[str, Node]) -> Iterator[Problem]:
    leads = {name: [shield for _, shield, _ in _candidates(each, "shield")] for name, each in shields.items()}
    for name, entry in shields.items():
        for index, shield, node in _candidates(entry, "shield"):
            path: Path = ("shields", name, "route", index, "shield")
            if shield == name:
                yield Problem(path, "a route cannot lead to itself", node.origin.where)
            elif shield not in shields:
                known = [each for each in shields if each != name]
                yield Problem(path, f"there is no shield '{shield}'.{did_you_mean(shield, known)}", node.origin.where)
            elif circle := _way(leads, shield, name):
                way = " -> ".join((name, *circle))
                yield Problem(path, f"these routes lead in a circle: {way}", node.origin.where)


def _tools(tree: Node) -> Iterator[Problem]:
    tools = tree.map.get("tools")
    if tools is not None and "file_search" in _section(tree, "tools"):
        message = "'file_search' is the search of an agent's vector stores, which is always there; choose another name"
        yield Problem(("tools", "file_search"), message, tools.keys["file_search"].where)


def _targets(tree: Node, known: Collection[str]) -> Iterator[Problem]:
    section = tree.map.get("targets")
    for name in section.map if section is not None else ():
        if section is not None and name not in known:
            message = f"unknown target '{name}'.{did_you_mean(name, known)}"
            yield Problem(("targets", name), message, section.keys[name].where)


def _providers(tree: Node, known: Collection[str]) -> Iterator[Problem]:
    for kind in KINDS:
        for name, entry in _section(tree, kind).items():
            node = entry.map.get("provider")
            provider = _text(node)
            if node is not None and provider is not None and provider not in known:
                message = f"unknown provider '{provider}'.{did_you_mean(provider, known)}"
                yield Problem((kind, name, "provider"), message, node.origin.where)
    node = _section(tree, "server").get("state")
    node = node.map.get("provider") if node is not None else None
    provider = _text(node)
    if node is not None and provider is not None and provider not in (*known, "none"):
        message = f"unknown provider '{provider}'.{did_you_mean(provider, known)}"
        yield Problem(("server", "state", "provider"), message, node.origin.where)
