"""Tools and choices of tools in a request: Structs, and the refusals that their types cannot word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lsbuild_runtime.responses.items import Label, Name
from lsbuild_runtime.routes.filters import Filter
from lsbuild_runtime.routes.search import RankingOptions
from lsbuild_runtime.routes.wire import refused

_ABSENT_TOOLS = {
    "code_interpreter": "name a Python file under 'tools' in the spec instead",
    "image_generation": "no provider here makes images",
    "computer": "no provider here controls a computer",
    "computer_use_preview": "no provider here controls a computer",
    "local_shell": "declare a function and run the shell in the client",
    "shell": "declare a function and run the shell in the client",
    "apply_patch": "declare a function and apply patches in the client",
    "custom": "declare a function with one text parameter instead",
    "namespace": "declare the functions one by one",
    "tool_search": "declare the tools that the model may call",
    "programmatic_tool_calling": "tools are called by the model only",
}
_WEB_SEARCH = ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11")


class Wire(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the parts of a request share."""


class FunctionTool(Wire, tag_field="type", tag="function"):
    """A function that the client runs; ``parameters`` is a JSON Schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FileSearchTool(Wire, tag_field="type", tag="file_search"):
    """The search of stores, run by the server."""

    vector_store_ids: Annotated[list[str], Meta(min_length=1, max_length=16)]
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None
    filters: Filter | None = None


class ToolNames(Wire):
    """Some tools of a server, by name."""

    tool_names: list[str] | None = None
    read_only: None = None


class ApprovalFilter(Wire):
    """Which tools of a server need a person's consent."""

    always: ToolNames | None = None
    never: ToolNames | None = None


class McpTool(Wire, tag_field="type", tag="mcp"):
    """A server of the spec, by its key under ``tools``. One that the client names itself needs the spec's permission."""

    server_label: Label
    server_url: str | None = None
    server_description: str | None = None
    authorization: str | None = None
    headers: dict[str, str] | None = None
    allowed_tools: list[str] | ToolNames | None = None
    require_approval: Literal["always", "never"] | ApprovalFilter | None = None


class WebSearchTool(Wire, tag_field="type", tag="web_search"):
    """The tool ``web_search`` of the spec."""


ToolParam = FunctionTool | FileSearchTool | McpTool | WebSearchTool


class ChooseFunction(Wire, tag_field="type", tag="function"):
    """Call this function, or this tool of the server, first."""

    name: str


class ChooseFileSearch(Wire, tag_field="type", tag="file_search"):
    """Search first."""


class ChooseWebSearch(Wire, tag_field="type", tag="web_search"):
    """Search the web first."""


class ChooseMcp(Wire, tag_field="type", tag="mcp"):
    """Call a tool of this server first."""

    server_label: Label
    name: str | None = None


class ChooseAllowed(Wire, tag_field="type", tag="allowed_tools"):
    """Only these of the tools may be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[ChooseFunction | ChooseFileSearch | ChooseWebSearch | ChooseMcp], Meta(min_length=1)]


ToolChoice = (
    Literal["none", "auto", "required"]
    | ChooseFunction
    | ChooseFileSearch
    | ChooseWebSearch
    | ChooseMcp
    | ChooseAllowed
)


def usual_tool(tool: Any, place: str) -> Any:
    """A tool as the Structs have it; ApiError 400 for one that there is not."""
    if not isinstance(tool, dict):
        return tool
    _refuse_absent_tool(tool, place)
    tool = _web(tool)
    if tool.get("type") == "mcp":
        for name in ("connector_id", "tunnel_id"):
            if tool.get(name) is not None:
                raise refused(
                    f"{place}.{name}", "OpenAI's connectors are not available here; name an MCP server in the spec"
                )
    return tool


def usual_choice(value: dict[str, Any]) -> Mapping[str, Any]:
    """As ``usual_tool``, of ``tool_choice``."""
    _refuse_absent_tool(value, "tool_choice")
    return _web(value)


def _web(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**value, "type": "web_search"} if value.get("type") in _WEB_SEARCH else value


def _refuse_absent_tool(value: Mapping[str, Any], place: str) -> None:
    why = _ABSENT_TOOLS.get(value["type"]) if isinstance(value.get("type"), str) else None
    if why is not None:
        raise refused(f"{place}.type", f"the tool {value['type']!r} is not available here: {why}", "unsupported_tool")


def check_tool(tool: ToolParam, place: str, seen: set[str]) -> None:
    """``seen`` are the names of the tools before it."""
    field = {FunctionTool: "name", McpTool: "server_label"}.get(type(tool), "type")
    name = str(getattr(tool, field, None) or type(tool).__struct_config__.tag)
    if f"{field} {name}" in seen:
        raise refused(f"{place}.{field}", f"{name!r} is there twice")
    seen.add(f"{field} {name}")
    if isinstance(tool, McpTool) and tool.allowed_tools == []:
        raise refused(f"{place}.allowed_tools", "an empty list allows nothing; leave the tool out")
