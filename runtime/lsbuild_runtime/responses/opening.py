"""From work to a run: the model or agent is opened, the tools of the request are bound, and its limits are set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.agents.runs import Approval, Event, Limits, Runner, Task, Used
from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Chat, Inference, ToolCall
from lsbuild_runtime.responses.binding import requested, together
from lsbuild_runtime.responses.called import Listed
from lsbuild_runtime.responses.choosing import allowed, chosen
from lsbuild_runtime.responses.messages import plain_name
from lsbuild_runtime.responses.preparing import Work
from lsbuild_runtime.responses.request import ResponseRequest
from lsbuild_runtime.safety.shields import guarded, guardrails, looking

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site
    from lsbuild_runtime.tools import Found


class Opened(Struct, frozen=True):
    """A run that can begin. ``listed`` are the servers whose tools a client is told of first."""

    runner: Runner
    task: Task
    listed: tuple[Listed, ...] = ()


class Past(Struct, frozen=True):
    """What a run had when it was cut: the messages of its steps, and what it had used and found."""

    messages: tuple[Mapping[str, Any], ...] = ()
    used: Used = Used()
    tainted: bool = False
    found: tuple[Found, ...] = ()


class Alone:
    """Implements runs.Runner over a model that is no agent: nothing is added to what the client says."""

    def __init__(self, model: Inference) -> None:
        self._model = model

    def task(self, chat: Chat, context: Context) -> Task:
        """See runs.Runner."""
        tainted = context.tainted or any(message["role"] == "tool" for message in chat.messages)
        return Task(chat, tainted=tainted, limits=Limits(wall=float("inf")))

    def run(self, task: Task, context: Context) -> Iterator[Event]:
        """See runs.Runner."""
        from lsbuild_runtime.agents.agent import run

        return run(task, self._model, context)


def opened(app: Site, work: Work, context: Context, past: Past | None = None) -> Opened:
    """The run of ``work``, or the rest of it after ``past``; ApiError 400, 404 or 503 for tools that cannot be had."""
    runner = runner_of(app, work)
    wanted = work.wanted
    task = runner.task(_open_choice(work.chat), context)
    extra, listed = requested(app, wanted.tools or (), work.listed, context)
    tools = together(task.tools, extra, {tool["function"]["name"] for tool in task.chat.tools})
    tools, choice = chosen(wanted.tool_choice, work.chat, tools)
    names = {plain_name(tool.group, tool.info.name): tool.name for tool in tools}
    messages = [_renamed(message, names) for message in task.chat.messages]
    task = replace(
        task,
        chat=replace(
            task.chat, messages=messages, tools=allowed(wanted.tool_choice, task.chat.tools), tool_choice=choice
        ),
        tools=tools,
        limits=_limits(task.limits, wanted),
        tainted=task.tainted or work.told.untrusted,
        approvals=tuple(_approval(each, names) for each in work.told.approvals),
    )
    return Opened(runner, task if past is None else _after(task, past), listed)


def runner_of(app: Site, work: Work) -> Runner:
    """The agent, or the model as one, behind its shields and those that the request names."""
    service, services = work.service, app.services
    named = guardrails(services, work.wanted.guardrails, "guardrails") if work.wanted.guardrails else ()
    bare = services.bare(service.api, service.name)
    if not all(hasattr(bare, name) for name in ("task", "run")):
        return Alone(guarded(services.get(service.api, service.name), services, named))
    runner: Runner = bare
    standing = [need.removeprefix("safety/") for need in service.needs if need.startswith("safety/")]
    if not (standing or named):
        return runner
    from lsbuild_runtime.agents.shielded_runs import ShieldedRunner  # only where there are shields

    return ShieldedRunner(runner, looking(services, dict.fromkeys((*standing, *named))))


def _open_choice(chat: Chat) -> Chat:
    """The choice is made when the tools of the agent are known."""
    return replace(chat, tool_choice="auto" if chat.tools else "none")


def _limits(limits: Limits, wanted: ResponseRequest) -> Limits:
    """The limits of the spec, or the request's where they are narrower."""
    tokens = [each for each in (limits.tokens, wanted.max_output_tokens) if each is not None]
    return replace(
        limits,
        calls=min(limits.calls, wanted.max_tool_calls or limits.calls),
        steps=min(limits.steps, wanted.max_infer_iters or limits.steps),
        tokens=min(tokens, default=None),
    )


def _renamed(message: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    """Calls of earlier responses under the names that their tools have in this one."""
    if not message.get("tool_calls"):
        return message
    calls = [
        {
            **call,
            "function": {**call["function"], "name": names.get(call["function"]["name"], call["function"]["name"])},
        }
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _approval(approval: Approval, names: Mapping[str, str]) -> Approval:
    call = approval.call
    return replace(approval, call=ToolCall(call.id, names.get(call.name, call.name), call.arguments))


def _after(task: Task, past: Past) -> Task:
    """The rest of a task that was cut after some steps."""
    return replace(
        task,
        chat=replace(task.chat, messages=[*task.chat.messages, *past.messages]),
        used=past.used,
        tainted=task.tainted or past.tainted,
        approvals=() if past.messages else task.approvals,
        found=past.found,
    )
