"""From work to a run: the model or agent is opened, the tools of the request are bound, and its limits are set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.file_search import FileSearch
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import Chat, Inference, ToolCall
from lsbuild_runtime.responses.messages import plain_name
from lsbuild_runtime.responses.preparing import Work
from lsbuild_runtime.responses.request import (
    ApprovalFilter,
    ChooseAllowed,
    ChooseFileSearch,
    ChooseFunction,
    ChooseMcp,
    ChooseWebSearch,
    FileSearchTool,
    McpTool,
    ResponseRequest,
    ToolNames,
    WebSearchTool,
    unavailable,
)
from lsbuild_runtime.responses.writer import SEARCH, WEB, Listed
from lsbuild_runtime.retrieve import models_around
from lsbuild_runtime.routes.filters import checked_filter
from lsbuild_runtime.routes.search import ranked
from lsbuild_runtime.routes.wire import refused
from lsbuild_runtime.runs import Approval, Bound, Event, Limits, Runner, Task, Used
from lsbuild_runtime.safety import guarded, guardrails, looking
from lsbuild_runtime.services import resolve
from lsbuild_runtime.tools import API as TOOLS
from lsbuild_runtime.tools import ToolInfo, ToolRuntime

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site
    from lsbuild_runtime.tools import Found

RESULTS = 10
"""Passages that a search of a request gives when it does not say."""
Chosen = ChooseFunction | ChooseFileSearch | ChooseWebSearch | ChooseMcp


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
        from lsbuild_runtime.agent import run

        return run(task, self._model, context)


def opened(app: Site, work: Work, context: Context, past: Past | None = None) -> Opened:
    """The run of ``work``, or the rest of it after ``past``; ApiError 400, 404 or 503 for tools that cannot be had."""
    runner = runner_of(app, work)
    wanted = work.wanted
    task = runner.task(_open_choice(work.chat), context)
    extra, listed = _requested(app, wanted, work.listed, context)
    tools = _together(task.tools, extra, {tool["function"]["name"] for tool in task.chat.tools})
    tools, choice = chosen(wanted, work.chat, tools)
    names = {plain_name(tool.group, tool.info.name): tool.name for tool in tools}
    messages = [_renamed(message, names) for message in task.chat.messages]
    task = replace(
        task,
        chat=replace(task.chat, messages=messages, tools=_functions(wanted, task.chat.tools), tool_choice=choice),
        tools=tools,
        limits=_limits(task.limits, wanted),
        tainted=task.tainted or work.told.untrusted,
        approvals=tuple(_approval(each, names) for each in work.told.approvals),
    )
    return Opened(runner, task if past is None else _after(task, past), listed)


def functions_of(app: Site, work: Work, context: Context) -> list[dict[str, Any]]:
    """The tools that the request names, in the form in which models are told of functions."""
    extra, _ = _requested(app, work.wanted, frozenset(), context)
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.info.description, "parameters": tool.info.parameters},
        }
        for tool in extra
    ]


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
    from lsbuild_runtime.shielded_runs import ShieldedRunner  # only where there are shields

    return ShieldedRunner(runner, looking(services, dict.fromkeys((*standing, *named))))


def chosen(wanted: ResponseRequest, chat: Chat, tools: tuple[Bound, ...]) -> tuple[tuple[Bound, ...], str]:
    """The tools that may be called, and the chat's ``tool_choice``; ApiError 400 for a choice that there is not."""
    choice = wanted.tool_choice
    functions = [tool["function"]["name"] for tool in chat.tools]
    if choice == "none":
        return (), "none"
    if choice is None or choice == "auto":
        return tools, "auto" if functions or tools else "none"
    if isinstance(choice, str):
        if not (functions or tools):
            raise refused("tool_choice", "'required' needs tools")
        return tools, "required"
    if isinstance(choice, ChooseAllowed):
        picked = [
            pick
            for place, each in enumerate(choice.tools)
            for pick in _picked(each, tools, functions, f"tool_choice.tools[{place}]")
        ]
        return tuple(tool for tool in tools if tool.name in picked), choice.mode
    names = _picked(choice, tools, functions, "tool_choice")
    if len(names) == 1:
        return tools, names[0]
    return tuple(tool for tool in tools if tool.name in names), "required"


def _picked(choice: Chosen, tools: Sequence[Bound], functions: Sequence[str], place: str) -> list[str]:
    """The names that a choice means."""
    if isinstance(choice, ChooseFunction):
        found = [name for name in (*functions, *(tool.name for tool in tools)) if name == choice.name]
        what = f"no tool is named {choice.name[:64]!r}"
    elif isinstance(choice, ChooseMcp):
        found = [
            tool.name
            for tool in tools
            if tool.group == choice.server_label and choice.name in (None, tool.info.name, tool.name)
        ]
        what = (
            f"no tool of {choice.server_label!r} is named {choice.name!r}"
            if choice.name
            else f"no tools of {choice.server_label!r}"
        )
    else:
        group = SEARCH if isinstance(choice, ChooseFileSearch) else WEB
        found = [tool.name for tool in tools if tool.group == group]
        what = f"there is no {group} among the tools"
    if not found:
        raise refused(place, what)
    return found[:1] if isinstance(choice, ChooseFunction) else found


def _functions(wanted: ResponseRequest, tools: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The client's functions that it allows."""
    choice = wanted.tool_choice
    if not isinstance(choice, ChooseAllowed):
        return tools
    allowed = {each.name for each in choice.tools if isinstance(each, ChooseFunction)}
    return [tool for tool in tools if tool["function"]["name"] in allowed]


def _open_choice(chat: Chat) -> Chat:
    """The choice is made when the tools of the agent are known."""
    return replace(chat, tool_choice="auto" if chat.tools else "none")


def _requested(
    app: Site, wanted: ResponseRequest, known: frozenset[str], context: Context
) -> tuple[list[Bound], tuple[Listed, ...]]:
    """The tools that the request names, bound, and the servers that the client has not seen yet."""
    bound: list[Bound] = []
    listed: list[Listed] = []
    for place, tool in enumerate(wanted.tools or ()):
        param = f"tools[{place}]"
        if isinstance(tool, FileSearchTool):
            search = _file_search(app, tool, param)
            bound += [Bound(info.name, SEARCH, info, search) for info in search.tools(context)]
        elif isinstance(tool, McpTool):
            runtime, infos = _server(app, tool, param, context)
            bound += [Bound(info.name, tool.server_label, info, runtime) for info in infos]
            if tool.server_label not in known:
                listed.append(Listed(tool.server_label, infos))
        elif isinstance(tool, WebSearchTool):
            web = _service(app, WEB, param, f"name a tool {WEB!r} under 'tools' in the spec")
            info = web.tools(context)[0]
            bound.append(Bound(WEB, WEB, info, web))
    return bound, tuple(listed)


def _file_search(app: Site, tool: FileSearchTool, param: str) -> ToolRuntime:
    stores = {}
    around = {}
    for index, store_id in enumerate(dict.fromkeys(tool.vector_store_ids)):
        try:
            store = app.stores.find(store_id)
        except ApiError as error:
            raise ApiError(
                error.status, error.message, param=f"{param}.vector_store_ids[{index}]", code=error.code
            ) from None
        stores[store_id] = app.stores.port(store)
        around[store_id] = models_around(store.service, app.services)
    ranking = ranked(tool.ranking_options, None, f"{param}.ranking_options")
    return FileSearch(stores, around, tool.max_num_results or RESULTS, ranking, checked_filter(tool.filters))


def _server(app: Site, tool: McpTool, param: str, context: Context) -> tuple[ToolRuntime, list[ToolInfo]]:
    """A server of the spec, and its tools that the request allows, with the approval that it asks for."""
    for name in ("authorization", "headers"):
        if getattr(tool, name) is not None:
            raise unavailable(f"{param}.{name}", "the spec says how its servers are asked; name a secret there")
    key = tool.server_label if tool.server_url is None else _at(app, tool.server_url, f"{param}.server_url")
    runtime = _service(app, key, f"{param}.server_label", "GET /v1/tools lists the tools of the spec")
    infos = list(runtime.tools(context))
    allowed = _names(tool.allowed_tools)
    if allowed is not None:
        known = {info.name for info in infos}
        for name in allowed:
            if name not in known:
                raise refused(f"{param}.allowed_tools", f"{tool.server_label!r} has no tool {name[:64]!r}")
        infos = [info for info in infos if info.name in allowed]
    return runtime, [_asked_for(info, tool) for info in infos]


def _at(app: Site, url: str, param: str) -> str:
    """The server of the spec at ``url``: clients of OpenAI name a server by its address, and may call it what they like."""
    for service in app.services:
        endpoint = service.metadata.get("mcp_endpoint") if service.api == TOOLS else None
        if endpoint and resolve(endpoint["uri"]).rstrip("/") == url.rstrip("/"):
            return service.name
    raise unavailable(
        param, "only servers of the spec are asked here, and none has this address; name it under 'tools' there"
    )


def _asked_for(info: ToolInfo, tool: McpTool) -> ToolInfo:
    """The tool with the approval that the client asks for: it can ask for more than the spec does, never for less."""
    rule = tool.require_approval
    if isinstance(rule, ApprovalFilter):
        always, never = _names(rule.always), _names(rule.never)
        asked = info.name in (always or ()) if always is not None else info.name not in (never or ())
    else:
        asked = rule == "always"
    return replace(info, approval=info.approval or asked)


def _names(given: list[str] | ToolNames | None) -> list[str] | None:
    return given.tool_names if isinstance(given, ToolNames) else given


def _service(app: Site, name: str, param: str, hint: str) -> ToolRuntime:
    if app.services.find((TOOLS,), name) is None:
        raise ApiError(
            400, f"{param}: no tool {name[:64]!r} is in this artifact; {hint}", param=param, code="tool_not_found"
        )
    runtime: ToolRuntime = app.services.get(TOOLS, name)
    return runtime


def _together(own: Sequence[Bound], extra: Sequence[Bound], functions: set[str]) -> tuple[Bound, ...]:
    """The agent's tools and the request's, each under a name of its own.

    What a request names takes the place of the agent's tools of that group: a client may ask to search fewer stores, or to
    be asked for more.
    """
    groups = {tool.group for tool in extra}
    bound = [tool for tool in own if tool.group not in groups]
    for tool in extra:
        names = {other.name for other in bound} | functions
        name = tool.name if tool.name not in names else plain_name(tool.group, tool.info.name)
        if name in names:
            raise refused("tools", f"two tools have the name {name!r}; rename one")
        bound.append(replace(tool, name=name))
    return tuple(bound)


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
