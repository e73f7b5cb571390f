"""An agent of a spec as a service: what it adds to a request, and its runs as events or as the answer of a model."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace

from lsbuild_runtime.agents.agent import function, run
from lsbuild_runtime.agents.agent_tool import AgentTool
from lsbuild_runtime.agents.grounding import Grounding, Passage, Showing, last_user
from lsbuild_runtime.agents.opening import Opening
from lsbuild_runtime.agents.runs import Bound, Ended, Event, Limits, Policy, StepDone, Task
from lsbuild_runtime.counting import count
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Completion, Delta, FinishReason, Host, Inference, VectorIO
from lsbuild_runtime.retrieve import Models, Ranking, models_around
from lsbuild_runtime.safety.looking import Look, before
from lsbuild_runtime.tools import API as TOOLS
from lsbuild_runtime.tools import ToolInfo, ToolRuntime
from lsbuild_runtime.tools.file_search import NAME as FILE_SEARCH
from lsbuild_runtime.tools.file_search import FileSearch

INSTRUCTIONS = "instructions.txt"
DEFAULT_PROMPT = "{passages}\n{question}"
"""The form that the built-in tiny model is trained on: each passage ends with a line break, then an empty line."""

_NAME = 64
"""Characters of a function's name."""


class Settings(Showing, frozen=True, kw_only=True):
    """What the manifest says about one agent. ``tokens`` are those of one answer, ``total_tokens`` of a whole run.

    ``tools`` are groups of tools, ``agents`` others that it may ask; ``tainted`` are those of the tools (``group`` or
    ``group.tool``) that may send something out after the run has read text that nobody vouches for. ``search`` says who
    calls file_search: the model when it likes, or every run at its beginning.
    """

    name: str = ""
    model: str
    instructions: str
    vector_stores: tuple[str, ...]
    tokens: int
    wall: float
    tools: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    steps: int = 10
    calls: int = 32
    total_tokens: int | None = None
    tainted: tuple[str, ...] = ()
    search: Literal["model", "first"] = "model"


class Agent:
    """Implements ports.Inference and runs.Runner over another model, which may be an agent itself.

    The instructions go before the conversation. An agent with stores and without file_search among its tools has them
    searched before it answers; one that searches first has that made a call of its run. Then the last user message is
    replaced by the prompt form, filled with the best passages, and where nothing was found the model gets the question
    alone. Everything else reaches the model as it came, functions of the client included. ``tools`` are the opened groups,
    ``look`` the shields that its calls pass.
    """

    def __init__(
        self,
        settings: Settings,
        model: Inference,
        stores: Mapping[str, VectorIO],
        around: Mapping[str, Models] | None = None,
        host: Host | None = None,
        tools: Mapping[str, ToolRuntime] | None = None,
        look: Look | None = None,
    ) -> None:
        self._settings = settings
        self._model = model
        self._tools = tools or {}
        self._look = look
        self._grounding = Grounding(settings, stores, around or {}, host, look or Look(()))

    def task(self, chat: Chat, context: Context) -> Task:
        """See runs.Runner. ApiError 400 without a user message, 503 when a group of tools cannot be reached."""
        settings = self._settings
        last_user(chat.messages)
        tools = bound({group: runtime.tools(context) for group, runtime in self._tools.items()}, self._tools)
        clients = {tool["function"]["name"] for tool in chat.tools}
        if both := sorted(clients & {tool.name for tool in tools}):
            raise ApiError(400, f"tools: this agent has a tool {both[0]!r} of its own; rename yours", param="tools")
        asked = replace(
            chat,
            messages=instructed(chat.messages, settings.instructions),
            tool_choice="auto" if chat.tool_choice == "none" and not chat.tools and tools else chat.tool_choice,
            sampling=replace(
                chat.sampling, max_tokens=min(chat.sampling.max_tokens or settings.tokens, settings.tokens)
            ),
        )
        despite = {
            tool.name for tool in tools if {tool.group, f"{tool.group}.{tool.info.name}"} & set(settings.tainted)
        }
        return Task(
            asked,
            tools,
            Limits(settings.steps, settings.calls, settings.total_tokens, settings.wall),
            Policy(frozenset(despite)),
            tainted=context.tainted or any(message["role"] == "tool" for message in chat.messages),
        )

    def run(self, task: Task, context: Context) -> Iterator[Event]:
        """See runs.Runner."""
        names = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": self._settings.name}
        with context.watch.span(f"invoke_agent {self._settings.name}", **names) as span:
            for event in self._begun(task, context):
                if isinstance(event, Ended):
                    span.set(**{"gen_ai.response.finish_reasons": [event.reason]})
                yield event

    def _begun(self, task: Task, context: Context) -> Iterator[Event]:
        """The run itself, with the search that it begins with as a call of it, or before it."""
        if self._settings.search == "first":
            opening = self._opening(task)
            for event in run(opening.task, opening, context, self._look):
                opening.read(event)
                yield event
            return
        grounded, question, passages = self._grounded(task, context)
        model = self._grounding.quoting(self._model, passages, question)
        yield from run(grounded, model, context, self._look, passages)

    def _opening(self, task: Task) -> Opening:
        search = next(tool.name for tool in task.tools if tool.group == FILE_SEARCH)
        return Opening(self._grounding, self._model, task, search)

    def _grounded(self, task: Task, context: Context) -> tuple[Task, str, Sequence[Passage]]:
        """The task with what was found before its question, the question, and what was found."""
        end = time.monotonic() + task.limits.wall
        messages = list(task.chat.messages)
        place = last_user(messages)
        question = str(messages[place].get("content") or "")
        limited = replace(context, deadline=min(context.deadline, end))
        searched = FILE_SEARCH not in self._tools
        passages = self._grounding.retrieve(question, messages[:place], limited) if searched else []
        messages[place] = self._grounding.asked(messages[place], passages, question)
        grounded = replace(
            task,
            chat=replace(task.chat, messages=messages),
            limits=replace(task.limits, wall=max(0.0, end - time.monotonic())),
            tainted=task.tainted or bool(passages),
        )
        return grounded, question, passages

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference. Nobody can be asked here, so calls that need approval are denied; what is over the limit of
        time is a 408."""
        task = self.task(chat, context)
        events = self.run(replace(task, policy=replace(task.policy, attended=False)), context)
        try:
            yield from answered(events, self._settings.wall)
        finally:
            close = getattr(events, "close", None)
            if close is not None:
                close()

    def count(self, chat: Chat, context: Context) -> int:
        """See ports.Counter: with the instructions, its tools, and the passages that a search finds for the question."""
        task = self._counted(self.task(chat, context), context)
        functions = [function(tool) for tool in task.tools]
        return count(self._model, replace(task.chat, tools=[*task.chat.tools, *functions]), context)

    def _counted(self, task: Task, context: Context) -> Task:
        """The task as its model is first asked, with what the search before it finds."""
        if self._settings.search != "first":
            return self._grounded(task, context)[0]
        opening = self._opening(task)
        search = next(tool for tool in task.tools if tool.group == FILE_SEARCH)
        for _ in opening.task.opening:
            opening.take(search.runtime.call(search.info.name, {"query": opening.question}, context).found)
        tools = tuple(tool for tool in task.tools if tool is not search)
        return replace(task, tools=tools, chat=replace(task.chat, messages=opening.shown(task.chat.messages)))

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:  # noqa: ARG002 - refused
        """An agent needs a conversation."""
        raise ApiError(400, "an agent answers POST /v1/chat/completions", param="model")


def answered(events: Iterator[Event], wall: float) -> Iterator[Delta]:
    """The events of a run as the answer of a model: its words, the client's calls, and all citations with the end."""
    held = Delta()
    before = said = 0
    for event in events:
        if isinstance(event, Delta):
            if event.index == 0:
                said += len(event.text)
                own = (replace(each, index=before + each.index) for each in event.annotations)
                held = Delta(annotations=(*held.annotations, *own), stop=event.stop or held.stop)
                event = replace(event, annotations=(), stop="")
            if event != Delta():
                yield event
        elif isinstance(event, StepDone):
            before = said
        elif isinstance(event, Ended):
            if event.reason == "wall":
                raise ApiError(408, f"the run took longer than {wall:g} s, the agent's limit", type="timeout_error")
            yield replace(held, finish=_FINISH.get(event.reason, event.reason), usage=event.usage)


_FINISH: Mapping[str, FinishReason] = {"steps": "stop", "tokens": "length", "approval": "stop"}


def bound(infos: Mapping[str, Sequence[ToolInfo]], runtimes: Mapping[str, ToolRuntime]) -> tuple[Bound, ...]:
    """The tools of all groups under the names that a model knows; where two have the same, the group goes before."""
    times = Counter(info.name for group in infos.values() for info in group)
    return tuple(
        Bound(
            info.name if times[info.name] == 1 else f"{group.replace('.', '_')}_{info.name}"[:_NAME],
            group,
            info,
            runtimes[group],
        )
        for group, group_infos in infos.items()
        for info in group_infos
    )


def instructed(messages: Sequence[Mapping[str, Any]], instructions: str) -> list[Mapping[str, Any]]:
    """The conversation behind the instructions, in one system message: more than templates have to know."""
    if not instructions:
        return list(messages)
    if messages[0]["role"] in ("system", "developer"):
        return [{**messages[0], "content": f"{instructions}\n\n{messages[0]['content']}"}, *messages[1:]]
    return [{"role": "system", "content": instructions}, *messages]


def open_agent(service: Service, root: Path, host: Host) -> Agent:
    """The entry for services of the API ``agents``; opens its model, its stores and its tools."""
    settings = settings_of(service, root)
    stores = {name: host.get("vector_io", name) for name in settings.vector_stores}
    around = {name: models_around(host.find(("vector_io",), name), host) for name in stores}
    tools: dict[str, ToolRuntime] = {
        name: FileSearch(stores, around, settings.passages, Ranking(threshold=settings.threshold))
        if name == FILE_SEARCH
        else host.get(TOOLS, name)
        for name in settings.tools
    }
    for name in settings.agents:
        known = host.find(("agents",), name)
        description = known.metadata.get("description", "") if known is not None else ""
        tools[name] = AgentTool(name, description, host.get("agents", name))
    model = host.get(*model_of(settings.model, service.needs))
    return Agent(settings, model, stores, around, host, tools, before(service, host))


def model_of(name: str, needs: Sequence[str]) -> tuple[str, str]:
    """API and name of the model, which is an agent itself where the service needs one of that name."""
    return ("agents" if f"agents/{name}" in needs else "inference", name)


def settings_of(service: Service, root: Path) -> Settings:
    """The service's config with its defaults, and its instructions from ``instructions.txt`` in its folder."""
    config = service.config
    instructions = (root / service.path / INSTRUCTIONS).read_text(encoding="utf-8") if service.path else ""
    return Settings(
        name=service.name,
        model=config["model"],
        instructions=instructions.strip(),
        vector_stores=tuple(config.get("vector_stores", ())),
        passages=config.get("passages", 3),
        tokens=config.get("tokens", 512),
        wall=config.get("wall", 30.0),
        prompt=config.get("prompt", DEFAULT_PROMPT),
        threshold=config.get("threshold", 0.0),
        keep_lines=config.get("keep_lines", False),
        exact=config.get("exact", False),
        nearest=config.get("nearest", False),
        tools=tuple(config.get("tools", ())),
        agents=tuple(config.get("agents", ())),
        steps=config.get("steps", 10),
        calls=config.get("calls", 32),
        total_tokens=config.get("total_tokens"),
        tainted=tuple(config.get("tainted", ())),
        search=config.get("search", "model"),
    )
