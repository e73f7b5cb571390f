"""An MCP server by the official SDK, for tests: on stdio, or with --http at a port of loopback, which it prints.

MCP_SALT, MCP_EXTRA and MCP_TOKEN change what it offers and what it wants.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

server = MCPServer("pumps", log_level="ERROR")


class Reading(BaseModel):
    """A measurement."""

    pump: str
    bar: float


@server.tool(description=f"Reads the pressure of a pump.{os.environ.get('MCP_SALT', '')}")
def pressure(pump: str, factor: float = 1.0) -> Reading:
    return Reading(pump=pump, bar=2.5 * factor)


@server.tool()
def echo(text: str) -> str:
    """Says the same."""
    return text


@server.tool()
def picture() -> Image:
    """Draws."""
    return Image(data=b"\x89PNG....", format="png")


@server.tool()
def fails() -> str:
    """Fails."""
    raise ToolError("the pump is dry")


@server.tool()
async def slow(seconds: float) -> str:
    """Waits."""
    await asyncio.sleep(seconds)
    return "waited"


@server.tool()
def secret() -> str:
    """Says what it knows of its environment."""
    return f"{os.environ.get('PUMP_KEY', '')} {os.environ.get('HIDDEN_FROM_TOOLS', '')}"


@server.tool()
def dies() -> str:
    """Dies."""
    os._exit(7)


if os.environ.get("MCP_EXTRA"):

    @server.tool()
    def extra() -> str:
        """Was not there before."""
        return "extra"


def _guarded(app: Any) -> Any:
    """Wants MCP_TOKEN as a bearer token, and keeps what it was asked in MCP_SEEN."""
    token = os.environ.get("MCP_TOKEN")

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and token and headers.get(b"authorization") != f"Bearer {token}".encode():
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})
            return
        await app(scope, receive, send)

    return asked


def serve(*, json_response: bool) -> None:
    """Serve over HTTP until the process ends."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp\n")
    sys.stdout.flush()
    app = _guarded(server.streamable_http_app(json_response=json_response))
    uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run(sockets=[listener])


if __name__ == "__main__":
    if "--http" in sys.argv:
        serve(json_response="--json" in sys.argv)
    else:
        server.run("stdio")
