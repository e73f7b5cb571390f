"""What a run of an agent may do: every call is decided here, by rules and by nothing that a model says; it calls nothing.

A call has to stay within the limits, name a tool of the task, pass the shields, fit the tool's schema, send nothing out once
the run has read text that nobody vouches for, be approved where that is asked, and not be the same again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.agents.runs import Approval, ApprovalAsked, Bound, CallEnded, Outcome, Task
from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import ToolCall, Usage
from lsbuild_runtime.safety.looking import Blocked, Look
from lsbuild_runtime.tools import Found, ToolResult

SAME_CALLS = 3
"""How often a run makes a call with the very same arguments; one more ends its calls."""

_CLOSED = "No more calls can be made. Answer now, with what you have."
_TAINTED = "Not allowed: this run has read text that nobody vouches for, and the tool sends data out. Go on without it."
_UNATTENDED = "Not allowed: this call needs a person's approval, and nobody can be asked here. Go on without it."


class Ready(Struct, frozen=True):
    """A call that may be made."""

    call: ToolCall
    tool: Bound
    arguments: Mapping[str, Any]


Decision = Ready | CallEnded | ApprovalAsked


class Decider:
    """The rules of one run, with what it has used and read so far."""

    def __init__(self, task: Task, look: Look, context: Context) -> None:
        self.used = task.used
        self.tainted = task.tainted or any(not tool.info.vouched for tool in task.tools)
        self.closed = ""
        """The rule for which no more calls are made; "" while they are."""
        self._tools = {tool.name: tool for tool in task.tools}
        self._limits = task.limits
        self._policy = task.policy
        self._look = look
        self._context = context
        self._made: dict[tuple[str, bytes], int] = {}

    @property
    def tokens(self) -> int | None:
        """How many may still be generated; None: no limit."""
        return None if self._limits.tokens is None else max(0, self._limits.tokens - self.used.tokens)

    def step(self) -> None:
        """The model is about to be asked; once more after the last step that may call, for an answer."""
        if self.used.steps >= self._limits.steps:
            self.closed = "steps"
        self.used = replace(self.used, steps=self.used.steps + 1)

    def generated(self, usage: Usage) -> None:
        """The model has answered."""
        self.used = replace(self.used, tokens=self.used.tokens + usage.completion)
        if self.tokens == 0:
            self.closed = self.closed or "tokens"

    def decide(self, call: ToolCall, said: Approval | None = None) -> Decision:
        """The first rule that stands against the call is what the model is told. ``said`` is a person's word on it."""
        if self.used.calls >= self._limits.calls:
            self.closed = self.closed or "calls"
        tool = self._tools.get(call.name)
        if self.closed:
            return _refused(call, tool, self.closed, _CLOSED)
        if tool is None:
            known = ", ".join(self._tools)
            return _refused(call, tool, "unknown", f"There is no tool {call.name[:64]!r}. The tools are: {known}.")
        try:
            text = self._look.look(call.arguments, "tool_args", self._context)
        except Blocked as blocked:
            return _refused(call, tool, "shield", f"A shield does not allow it: {blocked.finding.message}")
        from lsbuild_runtime.tools.arguments import validated  # with a schema library, which only calls need

        arguments = validated(text, tool.info.parameters)
        if isinstance(arguments, str):
            return _refused(call, tool, "invalid", arguments)
        return self._permitted(Ready(replace(call, arguments=text), tool, arguments), said)

    def _permitted(self, ready: Ready, said: Approval | None) -> Decision:
        call, tool = ready.call, ready.tool
        if self.tainted and tool.info.sends == "external" and tool.name not in self._policy.despite_taint:
            return _refused(call, tool, "tainted", _TAINTED)
        if said is not None and not said.approved:
            because = f": {said.reason}" if said.reason else "."
            return _refused(call, tool, "person", f"The user did not allow it{because}")
        if tool.info.approval and said is None:
            asked = ApprovalAsked(call, tool)
            return asked if self._policy.attended else _refused(call, tool, "person", _UNATTENDED)
        same = (tool.name, msgspec.json.encode(ready.arguments, order="sorted"))
        self._made[same] = self._made.get(same, 0) + 1
        if self._made[same] > SAME_CALLS:
            self.closed = "repeated"
            return _refused(call, tool, "repeated", f"This very call was made {SAME_CALLS} times. {_CLOSED}")
        self.used = replace(self.used, calls=self.used.calls + 1)
        return ready

    def read(self, ready: Ready, result: ToolResult) -> CallEnded:
        """The result as the model may read it: what a shield blocks is withheld, and the run is tainted where it is due."""
        self.tainted = self.tainted or not ready.tool.info.trusted
        try:
            found = tuple(self._passage(each) for each in result.found)
            text = self._look.look(result.text, "retrieved", self._context)
        except Blocked as blocked:
            withheld = ToolResult(f"A shield withheld the result: {blocked.finding.message}", failed=True)
            return CallEnded(ready.call, ready.tool, "failed", withheld, "shield")
        structured = result.structured if text == result.text else None
        told = ToolResult(text, result.failed, structured, found)
        return CallEnded(ready.call, ready.tool, "failed" if result.failed else "ok", told)

    def _passage(self, found: Found) -> Found:
        text = self._look.look(found.hit.text, "retrieved", self._context)
        return replace(found, hit=replace(found.hit, text=text))


def _refused(call: ToolCall, tool: Bound | None, rule: str, text: str) -> CallEnded:
    """A call that is not made; ``rule`` is ``unknown``, ``invalid``, or what forbids it."""
    result = ToolResult(text, failed=True)
    outcome = _NOT_DENIED.get(rule)
    return CallEnded(call, tool, outcome, result) if outcome else CallEnded(call, tool, "denied", result, rule)


_NOT_DENIED: Mapping[str, Outcome] = {"unknown": "unknown", "invalid": "invalid"}
