"""An agent as a tool of another: it is asked a question of its own, and its answer is the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import Chat, Inference, Sampling
from lsbuild_runtime.tools import ToolInfo, ToolResult

_PARAMETERS = {
    "type": "object",
    "properties": {
        "input": {
            "type": "string",
            "minLength": 1,
            "description": "The question or order, with all that is needed to understand it.",
        }
    },
    "required": ["input"],
    "additionalProperties": False,
}


class AgentTool:
    """Implements tools.ToolRuntime over ``agent``. What it may do after untrusted text its own policy decides: the context
    tells it whether the run that calls it is tainted. Its answer is as little trusted as what it has read."""

    def __init__(self, name: str, description: str, agent: Inference) -> None:
        self._info = told(name, description)
        self._agent = agent

    def tools(self, context: Context) -> Sequence[ToolInfo]:  # noqa: ARG002 - the same for everybody
        """See tools.ToolRuntime."""
        return (self._info,)

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        """See tools.ToolRuntime."""
        if name != self._info.name:
            raise ApiError(404, f"there is no tool {name!r}", code="not_found")
        question = {"role": "user", "content": arguments["input"]}
        text, refusal = "", ""
        for delta in self._agent.chat(Chat([question], Sampling(), tool_choice="auto", stream=False), context):
            text += delta.text
            refusal = delta.refusal or refusal
        return ToolResult(refusal, failed=True) if refusal else ToolResult(text)


def told(name: str, description: str) -> ToolInfo:
    """What a model is told of the agent of that name."""
    return ToolInfo(name.replace(".", "_"), description or f"Asks the agent {name}.", _PARAMETERS)
