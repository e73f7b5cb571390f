"""Calls and searches as items: those of the client's functions, of servers, of stores, of the web, and those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild_runtime.agents.runs import ApprovalAsked, Bound, CallEnded
from lsbuild_runtime.ports import ToolCall
from lsbuild_runtime.responses.items import (
    FileSearchCall,
    FileSearchResult,
    FunctionCall,
    Item,
    ListedTool,
    McpApprovalRequest,
    McpCall,
    McpListTools,
    WebSearchCall,
    item_id,
)
from lsbuild_runtime.responses.sheet import Events, Sheet
from lsbuild_runtime.tools import ToolInfo

SEARCH, WEB = "file_search", "web_search"
UNKNOWN = "unknown"
"""The ``server_label`` of a call of a tool that there is not."""


class Listed(Struct, frozen=True):
    """What a server offers, told before the run; ``error`` says why it could not be asked."""

    label: str
    tools: Sequence[ToolInfo] = ()
    error: str = ""


class Called:
    """Writes on ``sheet``."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._open: dict[str, Item] = {}
        """Items of calls that are under way, by the call's id."""

    def function(self, call: ToolCall) -> Events:
        """A call of a function of the client."""
        item = FunctionCall(id=item_id("fc"), call_id=call.id, name=call.name, arguments="", status="in_progress")
        yield self._sheet.added(item)
        place = self._sheet.place(item)
        item.arguments = call.arguments
        yield self._sheet.event("response.function_call_arguments.delta", **place, delta=call.arguments)
        yield self._sheet.event(
            "response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments
        )
        item.status = "completed" if call.whole or not call.arguments else "incomplete"
        yield self._sheet.done(item)

    def begun(self, call: ToolCall, tool: Bound) -> Events:
        """The server makes a call."""
        if tool.group == SEARCH:
            yield from self._searching(
                FileSearchCall(id=item_id("fs"), queries=[_query(call)], status="in_progress"), call
            )
        elif tool.group == WEB:
            action = {"type": "search", "query": _query(call), "queries": [_query(call)]}
            yield from self._searching(WebSearchCall(id=item_id("ws"), action=action, status="in_progress"), call)
        else:
            yield from self._calling(call, tool.group, tool.info.name)

    def _searching(self, item: FileSearchCall | WebSearchCall, call: ToolCall) -> Events:
        self._open[call.id] = item
        yield self._sheet.added(item)
        kind = SEARCH if isinstance(item, FileSearchCall) else WEB
        yield self._sheet.event(f"response.{kind}_call.in_progress", **self._sheet.place(item))
        item.status = "searching"
        yield self._sheet.event(f"response.{kind}_call.searching", **self._sheet.place(item))

    def _calling(self, call: ToolCall, label: str, name: str) -> Events:
        request = self._sheet.shape.requests.get(call.id)
        item = McpCall(
            id=item_id("mcp"),
            server_label=label,
            name=name,
            arguments="",
            status="in_progress",
            approval_request_id=request,
        )
        self._open[call.id] = item
        yield self._sheet.added(item)
        place = self._sheet.place(item)
        yield self._sheet.event("response.mcp_call.in_progress", **place)
        item.arguments = call.arguments
        yield self._sheet.event("response.mcp_call_arguments.delta", **place, delta=call.arguments)
        yield self._sheet.event("response.mcp_call_arguments.done", **place, arguments=call.arguments)

    def ended(self, event: CallEnded) -> Events:
        """A call is over."""
        if event.call.id not in self._open:  # it was not made, which is told all the same
            if event.tool is None:
                yield from self._calling(event.call, UNKNOWN, event.call.name)
            else:
                yield from self.begun(event.call, event.tool)
        item = self._open.pop(event.call.id)
        failed = event.outcome != "ok" or event.result.failed
        text = event.result.text
        if isinstance(item, McpCall):
            item.status = "failed" if failed else "completed"
            item.output = None if failed else text
            item.error = _call_error(text) if failed else None
            yield self._sheet.event(f"response.mcp_call.{item.status}", **self._sheet.place(item))
        elif isinstance(item, FileSearchCall):
            item.status = "failed" if failed else "completed"
            item.results = _results(event)
            yield self._sheet.event("response.file_search_call.completed", **self._sheet.place(item))
        elif isinstance(item, WebSearchCall):
            item.status, item.results = "failed" if failed else "completed", text
            yield self._sheet.event("response.web_search_call.completed", **self._sheet.place(item))
        yield self._sheet.done(item)

    def asked(self, event: ApprovalAsked) -> Events:
        """A call waits for a person."""
        tool = event.tool
        item = McpApprovalRequest(
            id=item_id("mcpr"), server_label=tool.group, name=tool.info.name, arguments=event.call.arguments
        )
        yield self._sheet.added(item)
        yield self._sheet.done(item)

    def listed(self, event: Listed) -> Events:
        """A server has said what it offers."""
        item = McpListTools(id=item_id("mcpl"), server_label=event.label, tools=[])
        yield self._sheet.added(item)
        yield self._sheet.event("response.mcp_list_tools.in_progress", **self._sheet.place(item))
        item.tools = [
            ListedTool(name=info.name, description=info.description, input_schema=dict(info.parameters))
            for info in event.tools
        ]
        item.error = event.error or None
        kind = "failed" if event.error else "completed"
        yield self._sheet.event(f"response.mcp_list_tools.{kind}", **self._sheet.place(item))
        yield self._sheet.done(item)

    def give_up(self) -> None:
        """What is under way will not end any more."""
        for item in self._open.values():
            if isinstance(item, McpCall | FileSearchCall | WebSearchCall):
                item.status = "incomplete"
        self._open.clear()


def _query(call: ToolCall) -> str:
    """What is searched for; the arguments as they are when they are no object with a query."""
    try:
        arguments = msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return call.arguments
    query = arguments.get("query") if isinstance(arguments, dict) else None
    return query if isinstance(query, str) else call.arguments


def _call_error(text: str) -> dict[str, Any]:
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}], "message": text}


def _results(event: CallEnded) -> list[FileSearchResult]:
    return [
        FileSearchResult(
            file_id=found.hit.file_id,
            filename=found.hit.filename,
            score=found.hit.score,
            text=found.hit.text,
            attributes=dict(found.hit.attributes),
            vector_store_id=found.store,
        )
        for found in event.result.found
    ]
