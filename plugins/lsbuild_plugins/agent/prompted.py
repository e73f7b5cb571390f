"""What an agent tells its model with every request, as a step of each model that is built here; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

from lsbuild.api import Compiled, Given, Item, Json, Step
from lsbuild.spec.model import Agent
from lsbuild_plugins.documents.steps import longest_passage
from lsbuild_runtime.tools import ToolInfo, file_search

_PLACES = ("{passages}", "{question}")


def function(info: ToolInfo) -> Mapping[str, Json]:
    """What a model is told of a tool, as Compiled.functions has it."""
    return {"name": info.name, "description": info.description, "parameters": dict(info.parameters)}


def steps(item: Item, given: Given, instructions: str, form: str) -> tuple[Step, ...]:
    """See Compiled.prompted; ``form`` is that of passages and question. None where no model is built here."""
    spec = cast("Agent", item.spec)
    told = {
        "messages": _messages(instructions.strip(), form),
        "functions": list(_functions(spec, given)),
        "passages": _passages(spec, given),
        "answer": spec.limits.tokens,
    }
    models = {step.options["model"]: step for step in _models(spec.model, given)}
    return tuple(
        replace(
            step,
            name=f"agents.{item.name}.prompt-{name}",
            options={**step.options, **told},
            ship=f"{step.ship}/{item.name}" if told["functions"] else "",
        )
        for name, step in models.items()
    )


def _models(name: str, given: Given) -> Iterator[Step]:
    """The steps of those that may answer for ``name``: a model, the candidates of a route, the model of an agent."""
    found = next((given.peers[kind, name] for kind in ("models", "agents") if (kind, name) in given.peers), Compiled())
    if found.prompted is not None:
        yield found.prompted
    for service in found.services:
        if service.api == "agents":
            yield from _models(service.config["model"], given)
        for need in service.needs if service.api == "inference" else ():
            yield from _models(need.removeprefix("inference/"), given)


def _messages(instructions: str, form: str) -> list[Mapping[str, str]]:
    """The conversation without what a user says in it and what a search finds."""
    for place in _PLACES:
        form = form.replace(place, "")
    system = [{"role": "system", "content": instructions}] if instructions else []
    return [*system, {"role": "user", "content": form}]


def _functions(spec: Agent, given: Given) -> Iterator[Mapping[str, Json]]:
    """Those of its tools and of the agents that it may ask; a server that is not pinned tells its own only when it runs."""
    for name in spec.tools:
        if name == file_search.NAME:
            if spec.config.get("search") != "first":  # then the run has called it before the model is told anything
                yield function(file_search.INFO)
        else:
            yield from given.peers.get(("tools", name), Compiled()).functions
    for name in spec.agents:
        yield from given.peers.get(("agents", name), Compiled()).functions


def _passages(spec: Agent, given: Given) -> int:
    """Tokens of the passages that one search may find."""
    stores = (given.peers.get(("vector_stores", name), Compiled()) for name in spec.vector_stores)
    return spec.limits.passages * max(map(longest_passage, stores), default=0)
