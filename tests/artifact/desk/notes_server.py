"""An MCP server of the official SDK over stdio: one tool, which reads a note."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes")
NOTES = {"valve": "The spare valve lies on shelf 7.", "key": "The key hangs behind the door."}


@server.tool()
def read_note(name: str) -> str:
    """Read a note by its name."""
    return NOTES.get(name, f"There is no note {name!r}.")


if __name__ == "__main__":
    server.run("stdio")
