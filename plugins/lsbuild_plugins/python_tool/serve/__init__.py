"""`inline::python` at run time: the functions of a file as tools; it knows what they are called, a process runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild_plugins.python_tool.serve.process import Failed, Process, Settings
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.tools import ToolInfo, ToolResult


class _Definition(Struct):
    name: str
    description: str
    parameters: dict[str, Any]


class PythonTools:
    """Implements tools.ToolRuntime for the functions of one file."""

    def __init__(self, tools: Sequence[ToolInfo], process: Process) -> None:
        self._tools = tuple(tools)
        self._process = process

    def tools(self, context: Context) -> Sequence[ToolInfo]:  # noqa: ARG002 - the same for everybody
        """See tools.ToolRuntime."""
        return self._tools

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        """See tools.ToolRuntime. A text is given as it is, anything else as JSON."""
        if name not in (tool.name for tool in self._tools):
            raise ApiError(404, f"there is no tool {name[:100]!r}", code="not_found")
        try:
            value = self._process.call(name, arguments, context)
        except Failed as error:
            return ToolResult(f"{name} failed: {error}", failed=True)
        if isinstance(value, str):
            return ToolResult(value)
        return ToolResult(msgspec.json.encode(value).decode(), structured=value)

    def close(self) -> None:
        """End the process."""
        self._process.close()


def open_tools(service: Service, root: Path, host: Host) -> PythonTools:  # noqa: ARG001 - the entry's shape
    """The entry; starts nothing yet."""
    folder = (root / service.path).resolve()
    config, told = service.config, service.metadata
    settings = msgspec.convert({**config, "tool": str(folder / "tool.py")}, Settings)
    written = msgspec.json.decode((folder / "tools.json").read_bytes(), type=list[_Definition])
    tools = [
        ToolInfo(
            each.name,
            each.description,
            each.parameters,
            sends=told["sends"],
            trusted=told["trusted"],
            approval=told["approval"] == "always",
        )
        for each in written
        if each.name in told["tools"]
    ]
    return PythonTools(tools, Process(settings))
