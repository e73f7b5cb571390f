"""A session with an MCP server: the beginning of it, the list of its tools, and calls; it knows no transport."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from lsbuild_plugins.mcp.serve.definitions import MOST_TOOLS, Definition
from lsbuild_plugins.mcp.serve.messages import REVISIONS, Gone, Transport, notification, request
from lsbuild_runtime.http import Context
from lsbuild_runtime.tools import ToolResult

START_SECONDS = 60.0
"""How long a server may take to begin: programs of some languages load for a while on a small machine."""
MOST_PAGES = 50
MOST_TEXT = 100_000
"""Characters of a result that a model gets."""


class Session:
    """An initialised session; closing it ends the transport. Errors are those of messages.Transport."""

    def __init__(self, transport: Transport, context: Context, seconds: float) -> None:
        self._transport = transport
        self._numbers = itertools.count(1)
        self._seconds = seconds
        client = {"name": "lsbuild", "title": "lsbuild", "version": "1"}
        told = {"protocolVersion": REVISIONS[0], "capabilities": {}, "clientInfo": client}
        answer = self._ask("initialize", told, context, max(START_SECONDS, seconds))
        revision = answer.get("protocolVersion")
        if revision not in REVISIONS:
            raise Gone(f"the server speaks revision {str(revision)[:40]!r} of the protocol, which is not spoken here")
        transport.spoken(revision)
        transport.notify(notification("notifications/initialized"))

    def alive(self) -> bool:
        """Whether it makes sense to ask."""
        return self._transport.alive()

    def tools(self, context: Context) -> list[Definition]:
        """All tools of the server, page by page, in its order. Gone for a list that does not end or is none."""
        found: list[Definition] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            answer = self._ask("tools/list", {"cursor": cursor} if cursor else {}, context)
            try:
                found += msgspec.convert(answer.get("tools"), list[Definition])
            except msgspec.ValidationError as error:
                raise Gone(f"the server's list of tools is not understood: {str(error)[:200]}") from error
            if len(found) > MOST_TOOLS:
                raise Gone(f"the server has more than {MOST_TOOLS} tools")
            cursor = answer.get("nextCursor")
            if not cursor:
                return found
        raise Gone(f"the server's list of tools has more than {MOST_PAGES} pages")

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        """Call a tool; an ``isError`` of the server is a failed result."""
        answer = self._ask("tools/call", {"name": name, "arguments": arguments}, context)
        content = answer.get("content")
        structured = answer.get("structuredContent")
        parts = [_part(part) for part in content] if isinstance(content, list) else []
        text = "\n".join(part for part in parts if part)
        if not text and structured is not None:
            text = msgspec.json.encode(structured).decode()
        if len(text) > MOST_TEXT:
            text = f"{text[:MOST_TEXT]}\n[cut: {len(text) - MOST_TEXT} more characters]"
        return ToolResult(text, failed=answer.get("isError") is True, structured=structured)

    def close(self) -> None:
        """End it."""
        self._transport.close()

    def _ask(
        self, method: str, params: Mapping[str, Any], context: Context, seconds: float | None = None
    ) -> dict[str, Any]:
        number = next(self._numbers)
        result = self._transport.request(number, request(number, method, params), context, seconds or self._seconds)
        if not isinstance(result, dict):
            raise Gone(f"the server's answer to {method} is no object")
        return result


def _part(part: Any) -> str:
    """One piece of content as text; what is no text is named."""
    if not isinstance(part, dict):
        return ""
    match part.get("type"):
        case "text":
            return str(part.get("text", ""))
        case "image" | "audio" as kind:
            size = len(str(part.get("data", ""))) * 3 // 4
            return f"[{kind}: {str(part.get('mimeType', ''))[:60]}, {size} bytes, not shown]"
        case "resource":
            inner = part.get("resource")
            text = inner.get("text") if isinstance(inner, dict) else None
            return text if isinstance(text, str) else "[resource: not text, not shown]"
        case "resource_link":
            return f"[resource: {str(part.get('name') or part.get('uri', ''))[:200]}]"
    return ""
