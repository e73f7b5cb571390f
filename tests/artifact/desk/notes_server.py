"""An MCP server of the official SDK over stdio: one tool that reads a note, and one that never brings any."""

import os
import threading
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes")
NOTES = {"valve": "The spare valve lies on shelf 7.", "key": "The key hangs behind the door."}


@server.tool()
def read_note(name: str) -> str:
    """Read a note by its name."""
    return NOTES.get(name, f"There is no note {name!r}.")


@server.tool()
def fetch_note(name: str) -> str:
    """Fetch a note from the archive; the pipe NOTES_CALLED is told which process was asked."""
    Path(os.environ["NOTES_CALLED"]).write_text(str(os.getpid()))
    threading.Event().wait()
    return name


if __name__ == "__main__":
    server.run("stdio")
