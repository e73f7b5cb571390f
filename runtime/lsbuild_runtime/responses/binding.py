"""The tools that a request names, bound: searches of its stores, servers and tools of the spec; nothing is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from lsbuild_runtime.agents.runs import Bound
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.responses.called import SEARCH, WEB, Listed
from lsbuild_runtime.responses.messages import plain_name
from lsbuild_runtime.responses.tool_params import (
    ApprovalFilter,
    FileSearchTool,
    McpTool,
    ToolNames,
    ToolParam,
    WebSearchTool,
)
from lsbuild_runtime.retrieve import models_around
from lsbuild_runtime.routes.filters import checked_filter
from lsbuild_runtime.routes.search import ranked
from lsbuild_runtime.routes.wire import refused
from lsbuild_runtime.services import resolve
from lsbuild_runtime.tools import API as TOOLS
from lsbuild_runtime.tools import ToolInfo, ToolRuntime
from lsbuild_runtime.tools.file_search import FileSearch

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

RESULTS = 10
"""Passages that a search of a request gives when it does not say."""


def requested(
    app: Site, tools: Sequence[ToolParam], known: frozenset[str], context: Context
) -> tuple[list[Bound], tuple[Listed, ...]]:
    """The tools that the server runs, bound, and the servers that are not ``known`` to the client yet.

    ApiError 400, 404 or 503 for what cannot be had.
    """
    bound: list[Bound] = []
    listed: list[Listed] = []
    for place, tool in enumerate(tools):
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
        with _within(f"{param}.vector_store_ids[{index}]"):
            store = app.stores.find(store_id)
        stores[store_id] = app.stores.port(store)
        around[store_id] = models_around(store.service, app.services)
    ranking = ranked(tool.ranking_options, None, f"{param}.ranking_options")
    with _within(param):
        filters = checked_filter(tool.filters)
    return FileSearch(stores, around, tool.max_num_results or RESULTS, ranking, filters)


@contextmanager
def _within(param: str) -> Iterator[None]:
    """Names the place of what is refused: ``param``, or what is within it."""
    try:
        yield
    except ApiError as error:
        place = f"{param}.{error.param}" if error.param else param
        message = error.message.removeprefix(f"{error.param}: ")
        raise ApiError(error.status, f"{place}: {message}", type=error.type, param=place, code=error.code) from None


def _server(app: Site, tool: McpTool, param: str, context: Context) -> tuple[ToolRuntime, list[ToolInfo]]:
    """A server of the spec, and its tools that the request allows, with the approval that it asks for."""
    for name in ("authorization", "headers"):
        if getattr(tool, name) is not None:
            raise refused(
                f"{param}.{name}",
                "the spec says how its servers are asked; name a secret there",
                "unsupported_parameter",
            )
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
    why = "only servers of the spec are asked here, and none has this address; name it under 'tools' there"
    raise refused(param, why, "unsupported_parameter")


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


def together(own: Sequence[Bound], extra: Sequence[Bound], functions: set[str]) -> tuple[Bound, ...]:
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
