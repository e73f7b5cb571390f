"""Tools: what there is, and calls without a model."""

from __future__ import annotations

from lsbuild_runtime.routes.tables.rare import GET, POST, routes_of

_tools = routes_of("tools", "tools")
_groups = routes_of("toolgroups", "tools")
_runtime = routes_of("tool_runtime", "tools")

TOOLS = (
    _tools(GET, "/v1/tools", "List tools", "listing", "", "ToolList", ("toolgroup_id",)),
    _tools(GET, "/v1/tools/{id:path}", "Get a tool", "retrieve", "", "ToolDef"),
    _groups(GET, "/v1/toolgroups", "List groups of tools", "groups", "", "ToolGroupList"),
    _groups(GET, "/v1/toolgroups/{id:path}", "Get a group of tools", "group", "", "ToolGroup"),
    _tools(GET, "/v1alpha/admin/tools", "List tools", "listing", "", "ToolList", ("toolgroup_id",)),
    _runtime(GET, "/v1/tool-runtime/list-tools", "List tools", "listed", "", "ToolList", ("tool_group_id",)),
    _runtime(POST, "/v1/tool-runtime/invoke", "Call a tool", "invoke", "InvokeRequest", "InvocationResult"),
)
