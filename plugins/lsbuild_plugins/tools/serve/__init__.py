"""`inline::tools` at run time: a calculator and a clock, each a tool under its name in the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.tools import ToolInfo, ToolResult

Run = Callable[[Mapping[str, Any]], ToolResult]


class OneTool:
    """Implements tools.ToolRuntime for one function of this process."""

    def __init__(self, info: ToolInfo, run: Run) -> None:
        self._info = info
        self._run = run

    def tools(self, context: Context) -> Sequence[ToolInfo]:  # noqa: ARG002 - the same for everybody
        """See tools.ToolRuntime."""
        return (self._info,)

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        """See tools.ToolRuntime."""
        context.check()
        if name != self._info.name:
            raise ApiError(404, f"there is no tool {name[:100]!r}", code="not_found")
        return self._run(arguments)


def open_calculator(service: Service, root: Path, host: Host) -> OneTool:  # noqa: ARG001 - the entry's shape
    """The entry of a calculator."""
    from lsbuild_plugins.tools.serve import calculator

    return OneTool(_info(service, calculator.DESCRIPTION, calculator.PARAMETERS), calculator.run)


def open_time(service: Service, root: Path, host: Host) -> OneTool:  # noqa: ARG001 - the entry's shape
    """The entry of a clock."""
    from lsbuild_plugins.tools.serve.clock import DESCRIPTION, Clock

    clock = Clock(service.config.get("timezone") or "UTC")
    return OneTool(_info(service, DESCRIPTION.format(zone=clock.zone), clock.parameters), clock.run)


def _info(service: Service, description: str, parameters: Mapping[str, Any]) -> ToolInfo:
    told = service.metadata
    return ToolInfo(
        service.name,
        told.get("description", description),
        parameters,
        sends=told["sends"],
        trusted=told["trusted"],
        approval=told["approval"] == "always",
    )
