"""What an agent names besides its model: stores, tools and other agents; pure."""

from __future__ import annotations

from collections.abc import Iterator

from lsbuild.errors import Problem
from lsbuild.spec.marks import Node, Path
from lsbuild.spec.references.tree import listed, section, text
from lsbuild.suggest import did_you_mean

SEARCH = "file_search"
"""The search of an agent's own vector stores, among its tools."""


def check(tree: Node) -> Iterator[Problem]:
    """What every agent may search and call."""
    for name, agent in section(tree, "agents").items():
        path: Path = ("agents", name)
        yield from _stores(tree, agent, path)
        yield from _tools(tree, agent, path)
        yield from _others(tree, agent, path)


def _stores(tree: Node, agent: Node, path: Path) -> Iterator[Problem]:
    """An agent compares the scores of its stores: one model ranks them all again, or none does."""
    stores = section(tree, "vector_stores")
    known = []
    for store in listed(agent, path, "vector_stores"):
        if store.name in stores:
            known.append((store, text(stores[store.name].map.get("rerank"))))
        else:
            yield store.missing("vector store", stores)
    for store, ranker in known:
        first, by = known[0]
        if ranker != by:
            told = [f"by '{each}'" if each else "by no model" for each in (ranker, by)]
            yield store.fault(
                f"'{store.name}' is ranked again {told[0]}, '{first.name}' {told[1]}, and their scores cannot be compared; "
                "give all stores of an agent the same rerank model, or none"
            )


def _tools(tree: Node, agent: Node, path: Path) -> Iterator[Problem]:
    tools, agents = section(tree, "tools"), section(tree, "agents")
    own = list(listed(agent, path, "tools"))
    for tool in own:
        if tool.name == SEARCH:
            if not any(listed(agent, path, "vector_stores")):
                yield tool.fault(f"{SEARCH} searches the agent's vector_stores, and it has none")
        elif tool.name in agents:
            yield tool.fault(f"'{tool.name}' is an agent; name it under 'agents'")
        elif tool.name not in tools:
            yield tool.missing("tool", (*tools, SEARCH))
    names = [tool.name for tool in own]
    for tool in listed(agent, path, "tainted"):
        if tool.name.partition(".")[0] not in names and tool.name not in names:
            yield tool.fault(f"'{tool.name}' is none of this agent's tools.{did_you_mean(tool.name, names)}")


def _others(tree: Node, agent: Node, path: Path) -> Iterator[Problem]:
    agents = section(tree, "agents")
    for other in listed(agent, path, "agents"):
        if other.name == path[1]:
            yield other.fault("an agent cannot ask itself")
        elif other.name not in agents:
            yield other.missing("agent", [each for each in agents if each != path[1]])
