"""GET /v1/tools, /v1/toolgroups and /v1/tool-runtime: Llama Stack's way to see the tools of the spec and to call one.

No model and no policy of an agent is between: whoever may reach the server may call a tool, unless the spec wants a
person to be asked first. The search of stores is no tool here; it has routes of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.http import ApiError, Context, Request, Response, json_response
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.routes.providers import provider_id
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.tools import API, ToolInfo, ToolRuntime
from lsbuild_runtime.tools.arguments import validated

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site


class Parameter(Struct, kw_only=True):
    """One parameter of a tool as clients of Llama Stack 0.2 know it."""

    name: str
    parameter_type: str
    description: str
    required: bool
    default: Any = None


class ToolDef(Struct, kw_only=True):
    """Llama Stack's description of a tool; ``metadata`` says what a policy goes by.

    ``identifier`` (the name), ``parameters``, ``provider_id`` and ``type`` are how 0.2 describes it.
    """

    name: str
    identifier: str
    type: Literal["tool"] = "tool"
    toolgroup_id: str
    provider_id: str
    provider_resource_id: str
    description: str
    parameters: list[Parameter]
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    metadata: dict[str, Any]


class ToolList(Struct):
    """All tools, or those of one group."""

    data: list[ToolDef]


class Endpoint(Struct):
    """Where a group's server is."""

    uri: str


class ToolGroup(Struct, kw_only=True):
    """Llama Stack's description of a group: an entry of ``tools`` in the spec."""

    identifier: str
    provider_resource_id: str
    provider_id: str
    type: Literal["tool_group"] = "tool_group"
    mcp_endpoint: Endpoint | None = None
    args: dict[str, Any] | None = None


class ToolGroupList(Struct):
    """All groups, in the order of the spec."""

    data: list[ToolGroup]


class InvokeRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Llama Stack's request. A name that several groups have is written ``GROUP.NAME``."""

    tool_name: Annotated[str, Meta(min_length=1)]
    kwargs: dict[str, Any] = {}


class _Raw(Struct, kw_only=True, forbid_unknown_fields=True):
    """The request with its arguments as they were written: twice the same name is a fault of theirs."""

    tool_name: Annotated[str, Meta(min_length=1)]
    kwargs: msgspec.Raw = msgspec.Raw(b"{}")


class InvocationResult(Struct, kw_only=True):
    """Llama Stack's answer. What the tool did wrong is in ``error_message``, with ``error_code`` 1 and no content."""

    content: str | None
    error_message: str | None = None
    error_code: int | None = None
    metadata: dict[str, Any]


_DECODER = msgspec.json.Decoder(_Raw)


def listing(app: Site, request: Request, _: str) -> Response:
    """All tools, or those of ``toolgroup_id``."""
    return json_response(ToolList(_defined(app, request.query.get("toolgroup_id"), "toolgroup_id", request.context)))


def listed(app: Site, request: Request, _: str) -> Response:
    """The same under the name that the tool runtime has for it."""
    return json_response(ToolList(_defined(app, request.query.get("tool_group_id"), "tool_group_id", request.context)))


def retrieve(app: Site, request: Request, name: str) -> Response:
    """One tool."""
    group, info, _ = _found(app, name, "tool_name", request.context)
    return json_response(_tool(group, info))


def groups(app: Site, _request: Request, _: str) -> Response:
    """All groups."""
    return json_response(ToolGroupList([_group(service) for service in _services(app)]))


def group(app: Site, _request: Request, name: str) -> Response:
    """One group."""
    return json_response(_group(_named(app, name, "toolgroup_id")))


def invoke(app: Site, request: Request, _: str) -> Response:
    """Call a tool. ApiError 400 for arguments that do not fit, 403 for a tool that needs a person's consent."""
    wanted = decode(request, _DECODER)
    group, info, runtime = _found(app, wanted.tool_name, "tool_name", request.context)
    if info.approval:
        message = f"tool {info.name!r} needs a person's approval (approval: always), which cannot be given here"
        raise ApiError(403, message, type="permission_error", param="tool_name", code="approval_required")
    arguments = validated(bytes(wanted.kwargs).decode(), info.parameters)
    if isinstance(arguments, str):
        raise refused("kwargs", arguments)
    names = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": info.name, "lsbuild.tool.group": group.name}
    with request.context.watch.span(f"execute_tool {info.name}", **names) as span:
        result = runtime.call(info.name, arguments, request.context)
        span.set(**{"lsbuild.tool.outcome": "failed" if result.failed else "ok"})
    metadata: dict[str, Any] = {"toolgroup_id": group.name}
    if result.structured is not None:
        metadata["structured_content"] = result.structured
    if result.failed:
        answer = InvocationResult(content=None, error_message=result.text, error_code=1, metadata=metadata)
    else:
        answer = InvocationResult(content=result.text, metadata=metadata)
    return json_response(answer)


def _services(app: Site) -> list[Service]:
    return [service for service in app.services if service.api == API]


def _named(app: Site, name: str, param: str) -> Service:
    found = app.services.find((API,), name)
    if found is None:
        raise ApiError(404, f"there is no group of tools {name[:100]!r}", param=param, code="not_found")
    return found


def _defined(app: Site, group: str | None, param: str, context: Context) -> list[ToolDef]:
    services = _services(app) if group is None else [_named(app, group, param)]
    return [_tool(service, info) for service, info, _ in _all(app, services, context)]


def _all(app: Site, services: list[Service], context: Context) -> Iterator[tuple[Service, ToolInfo, ToolRuntime]]:
    for service in services:
        runtime: ToolRuntime = app.services.get(API, service.name)
        for info in runtime.tools(context):
            yield service, info, runtime


def _found(app: Site, name: str, param: str, context: Context) -> tuple[Service, ToolInfo, ToolRuntime]:
    """The tool ``NAME`` or ``GROUP.NAME``; only groups that may have it are asked."""
    group, _, _ = name.rpartition(".")
    services = [service for service in _services(app) if _may_have(service, name, group)]
    found = [each for each in _all(app, services, context) if name in (each[1].name, f"{each[0].name}.{each[1].name}")]
    if not found:
        raise ApiError(404, f"there is no tool {name[:100]!r}; GET /v1/tools lists them", param=param, code="not_found")
    if len(found) > 1:
        names = " or ".join(f"{service.name}.{info.name}" for service, info, _ in found)
        raise refused(param, f"several groups have a tool {name[:60]!r}; say {names}")
    return found[0]


def _may_have(service: Service, name: str, group: str) -> bool:
    """Whether a group has to be opened to look for a tool; one that is not pinned does not say what it has."""
    known = service.metadata.get("tools")
    return not known or name in known or service.name == group


def _tool(service: Service, info: ToolInfo) -> ToolDef:
    return ToolDef(
        name=info.name,
        identifier=info.name,
        toolgroup_id=service.name,
        provider_id=provider_id(service.provider),
        provider_resource_id=info.name,
        description=info.description,
        parameters=list(_parameters(info.parameters)),
        input_schema=dict(info.parameters),
        metadata={
            "sends": info.sends,
            "trusted": info.trusted,
            "approval": "always" if info.approval else "never",
        },
    )


def _parameters(schema: Mapping[str, Any]) -> Iterator[Parameter]:
    """The members of the schema; one whose type is none word (``anyOf``, several types) has the type ``any``."""
    required = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        told = each if isinstance(each, dict) else {}
        kind, description = told.get("type"), told.get("description")
        yield Parameter(
            name=name,
            parameter_type=kind if isinstance(kind, str) else "any",
            description=description if isinstance(description, str) else "",
            required=name in required,
            default=told.get("default"),
        )


def _group(service: Service) -> ToolGroup:
    endpoint = service.metadata.get("mcp_endpoint")
    return ToolGroup(
        identifier=service.name,
        provider_resource_id=service.name,
        provider_id=provider_id(service.provider),
        mcp_endpoint=Endpoint(endpoint["uri"]) if endpoint else None,
    )
