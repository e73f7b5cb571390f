"""`inline::agent` for the builder: ships an agent's instructions and settings; the loop itself is the runtime's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Compiled, Given, Item, Json, Plugin, Problem, Service, Step, StepContext, config_problems
from lsbuild.declaring import JSON_SCHEMA
from lsbuild.spec.model import Agent
from lsbuild_plugins.agent import prompted
from lsbuild_plugins.documents import texts
from lsbuild_runtime.agents import agent_tool

INSTRUCTIONS = "instructions.txt"
"""The file in the agent's folder, which the runtime reads."""
SEARCH = "file_search"
"""The search of the agent's own stores, among its tools."""
_VALIDATION = (JSON_SCHEMA,)
"""What the arguments of calls are checked with."""


class Config(BaseModel):
    """Settings of an agent under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    prompt: str | None = None
    """The form in which passages and question reach the model: a text with ``{passages}`` and ``{question}``."""
    threshold: float = Field(default=0.0, ge=0, le=1)
    """Passages with a lower score are not shown."""
    keep_lines: bool = False
    """Show passages with their line breaks (for models that read code and tables); else each is one line."""
    exact: bool = False
    """Hold the answer back until it ends and make its quote the passage's own sentence, letter for letter. For small models,
    which choose a sentence well but copy it badly; a number is then never misquoted."""
    nearest: bool = False
    """With ``exact``: quote the sentence of the cited passage that is nearest in meaning to the question, by the model that
    embedded the store. The model then decides only which passage answers, and whether any does."""
    search: Literal["model", "first"] = "model"
    """Who calls ``file_search``: the model, or every run at its beginning, with what the user asks. The second is for models too
    small to search for themselves: they get the passages in the form of ``prompt``, before the question."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """How freely it answers when the client does not say; 0 always takes the likeliest word."""


class AgentPlugin(Plugin):
    """The compile half of `inline::agent`."""

    provider = "inline::agent"
    kinds = ("agents",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``; a prompt form without its places."""
        spec = _spec(item)
        if faults := config_problems(Config, spec.config):
            yield from faults
            return
        config = Config.model_validate(spec.config)
        if config.nearest and not (config.exact and spec.vector_stores):
            yield Problem(("config", "nearest"), "needs vector_stores and exact: true, since it replaces the quote")
        if config.search == "first" and not (SEARCH in spec.tools and spec.vector_stores):
            yield Problem(("config", "search"), f"needs vector_stores, and {SEARCH} among the tools")
        if config.prompt is None:
            return
        if not spec.vector_stores:
            yield Problem(("config", "prompt"), "the form is used with vector_stores only, and this agent has none")
        for place in ("{passages}", "{question}"):
            if place not in config.prompt:
                yield Problem(("config", "prompt"), f"the form has no {place}")

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:
        """Its model, its stores, and what it may call."""
        spec = _spec(item)
        return (
            ("models", spec.model),
            *(("vector_stores", name) for name in spec.vector_stores),
            *(("tools", name) for name in spec.tools if name != SEARCH),
            *(("agents", name) for name in spec.agents),
        )

    def sources(self, item: Item) -> Mapping[str, str]:
        """The file of the instructions, if they are in one."""
        path = texts.path_of(_spec(item).instructions)
        return {"instructions": path} if path else {}

    def compile(self, item: Item, given: Given) -> Compiled:
        """A step that writes the instructions, one for each model built here that is told them, and one service."""
        spec = _spec(item)
        sources = {"instructions": given.sources["instructions"]} if "instructions" in given.sources else {}
        step = Step(
            name=f"agents.{item.name}.instructions",
            run="lsbuild_plugins.agent.plugin:write_instructions",
            options={"text": "" if sources else spec.instructions},
            sources=sources,
            code=("lsbuild_plugins.agent", "lsbuild_plugins.documents.texts"),
            ship=f"agents/{item.name}",
            part="app",
        )
        wheels = _VALIDATION if spec.tools or spec.agents else ()
        instructions = texts.read(spec.instructions, sources, "instructions")
        told = prompted.steps(item, given, instructions, spec.config.get("prompt") or "")
        function = prompted.function(agent_tool.told(item.name, spec.description))
        return Compiled((step, *told), (_service(item, given),), wheels, functions=(function,))


PLUGIN = AgentPlugin()


def write_instructions(context: StepContext) -> Mapping[str, Json]:
    """The step: one UTF-8 text file. A source that is not UTF-8 is a SourceError."""
    text = texts.read(context.options["text"], context.sources, "instructions")
    (context.out / INSTRUCTIONS).write_text(text, encoding="utf-8")
    return {"characters": len(text)}


def _spec(item: Item) -> Agent:
    return cast("Agent", item.spec)


def _service(item: Item, given: Given) -> Service:
    spec = _spec(item)
    config = Config.model_validate(spec.config)
    limits = spec.limits
    settings: dict[str, Any] = {
        "model": spec.model,
        "vector_stores": list(spec.vector_stores),
        "passages": limits.passages,
        "tokens": limits.tokens,
        "wall": limits.wall,
        "threshold": config.threshold,
        "keep_lines": config.keep_lines,
        "exact": config.exact,
        "nearest": config.nearest,
    }
    if config.prompt is not None:
        settings["prompt"] = config.prompt
    if spec.tools or spec.agents:
        settings |= {
            "tools": list(spec.tools),
            "agents": list(spec.agents),
            "steps": limits.steps,
            "calls": limits.calls,
            "tainted": list(spec.tainted),
            "search": config.search,
        }
    if limits.total_tokens is not None:
        settings["total_tokens"] = limits.total_tokens
    described = {"description": spec.description} if spec.description else {}
    model = "agents" if ("agents", spec.model) in given.peers else "inference"
    return Service(
        api="agents",
        name=item.name,
        provider="inline::agent",
        entry="lsbuild_runtime.agents.service:open_agent",
        path=f"agents/{item.name}",
        config=settings,
        metadata={"model_type": "llm", "sampling": {"temperature": config.temperature}, **described},
        needs=(
            f"{model}/{spec.model}",
            *(f"vector_io/{name}" for name in spec.vector_stores),
            *(f"tool_runtime/{name}" for name in spec.tools if name != SEARCH),
            *(f"agents/{name}" for name in spec.agents),
        ),
    )
