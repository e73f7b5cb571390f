"""What the build knows of tools is what the runtime tells models of them, to the letter: grammars are found by that."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Compiled, Given, Item, Plugin, Source, SourceFile, StepContext
from lsbuild.registry import attribute
from lsbuild.spec.model import Tool
from lsbuild_plugins.http_tool.plugin import PLUGIN as HTTP
from lsbuild_plugins.mcp.plugin import PLUGIN as MCP
from lsbuild_plugins.mcp.serve import definitions
from lsbuild_plugins.python_tool.plugin import PLUGIN as PYTHON
from lsbuild_plugins.tools.plugin import PLUGIN as BUILTIN
from lsbuild_runtime.http import Context
from onnx_serve_models import NoHost

CODE = '''
def start(pump: int, slowly: bool = False) -> str:
    """Start a pump.

    Args:
        pump: Its number.
    """
    return "on"

def stop(pump: int) -> str:
    """Stop a pump."""
    return "off"
'''
HTTP_CALL = {"url": "https://x.example.com/{id}", "parameters": {"id": {"type": "string"}, "n": {"type": "integer"}}}


def source(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return Source(path.name, (SourceFile(path.name, path, hashlib.sha256(data).hexdigest(), len(data)),))


def told(compiled: Compiled, root: Path) -> list[dict[str, Any]]:
    """Ship what ``compiled`` ships, open its service, and ask it for its tools."""
    for step in compiled.steps:
        (root / step.ship).mkdir(parents=True)
        attribute(step.run)(StepContext(root / step.ship, step.options, step.sources, {}, lambda *_: None))
    (service,) = compiled.services
    opened = attribute(service.entry)(service, root, NoHost())
    try:
        return [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in opened.tools(Context())
        ]
    finally:
        getattr(opened, "close", lambda: None)()


@pytest.mark.parametrize(
    ("plugin", "spec", "count"),
    [
        (BUILTIN, {"builtin": "calculator"}, 1),
        (BUILTIN, {"builtin": "calculator", "description": "Adds."}, 1),
        (BUILTIN, {"builtin": "time"}, 1),
        (BUILTIN, {"builtin": "time", "config": {"timezone": "Europe/Berlin"}}, 1),
        (HTTP, {"http": HTTP_CALL, "description": "Asks."}, 1),
        (PYTHON, {"python": "pump.py"}, 2),
        (PYTHON, {"python": "pump.py", "allow": ["stop"]}, 1),
        (MCP, {"mcp": {"url": "https://x.example.com/mcp"}}, 2),
        (MCP, {"mcp": {"url": "https://x.example.com/mcp"}, "allow": ["b.read"]}, 1),
    ],
)
def test_functions(plugin: Plugin, spec: dict[str, Any], count: int, tmp_path: Path) -> None:
    pinned = [definitions.Definition("a"), definitions.Definition("b.read", "B", input_schema={"type": "object"})]
    sources = {
        PYTHON: {"file": source(tmp_path / "pump.py", CODE.encode())},
        MCP: {"definitions": source(tmp_path / "definitions.json", definitions.written(pinned))},
    }
    item = Item("tools", "pump", plugin.provider, Tool(**spec), tmp_path)
    compiled = plugin.compile(item, Given(sources.get(plugin, {})))
    assert list(compiled.functions) == told(compiled, tmp_path / "out")
    assert len(compiled.functions) == count


def test_what_the_environment_decides_is_not_known() -> None:
    item = Item("tools", "t", "inline::tools", Tool(builtin="time", config={"timezone": "${env.TZ}"}), Path())
    assert BUILTIN.compile(item, Given({})).functions == ()
    item = Item("tools", "t", "remote::mcp", Tool(mcp={"url": "https://x.example.com/mcp"}, pin=False), Path())
    assert MCP.compile(item, Given({})).functions == ()
