"""What a run of an agent is: the task it is given and the events it makes; types only, the loop is in ``agent.py``.

    Task --agent.run--> Event, Event, ... , Ended

A route turns events into its own wire form; an agent that is asked as a model drops all but the deltas. A run keeps no
state: whoever wants to go on with it later keeps the messages of each ``StepDone``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Chat, Delta, ToolCall, Usage
from lsbuild_runtime.tools import Found, ToolInfo, ToolResult, ToolRuntime


class Limits(Struct, frozen=True):
    """What one run may use at most. ``steps`` are answers of the model that may call tools: a run that reaches them gets one
    more answer, without. ``calls`` are calls of tools, ``tokens`` generated ones in all steps together (None: no limit of
    its own), ``wall`` seconds."""

    steps: int = 10
    calls: int = 32
    tokens: int | None = None
    wall: float = 120.0


class Bound(Struct, frozen=True):
    """A tool that the server runs: under ``name`` the model knows ``info``, which ``runtime`` calls by ``info.name``.

    ``group`` is the service it belongs to (a key of ``tools``), ``file_search`` for the search of the run's own stores.
    """

    name: str
    group: str
    info: ToolInfo
    runtime: ToolRuntime


class Policy(Struct, frozen=True):
    """What a run may do with what it has read.

    Text that nobody vouches for (passages, results of tools that are not trusted) taints a run. A tainted run calls a
    tool that ``sends`` something away only when its bound name is in ``despite_taint``. ``attended`` says that a person
    can be asked: else calls that need approval are denied.
    """

    despite_taint: frozenset[str] = frozenset()
    attended: bool = True


class Used(Struct, frozen=True):
    """What a run has taken of its limits so far."""

    steps: int = 0
    calls: int = 0
    tokens: int = 0


class Approval(Struct, frozen=True):
    """What a person said of a call that had to be asked for."""

    call: ToolCall
    approved: bool
    reason: str = ""


class Task(Struct, frozen=True):
    """What a run is given. ``chat`` holds the messages so far and the functions that the client runs (``chat.tools``);
    ``tools`` are those that the server runs. ``tainted`` says that untrusted text is among the messages already.

    ``approvals`` answer calls that an earlier run stopped at: the approved ones are made first. ``used`` is what earlier
    parts of the same run have taken of its limits, ``found`` the passages that their searches gave, in the order of their
    numbers. ``opening`` are calls that the run begins with, before the model is asked.
    """

    chat: Chat
    tools: tuple[Bound, ...] = ()
    limits: Limits = Limits()
    policy: Policy = Policy()
    tainted: bool = False
    approvals: tuple[Approval, ...] = ()
    used: Used = Used()
    found: tuple[Found, ...] = ()
    opening: tuple[ToolCall, ...] = ()


class CallBegun(Struct, frozen=True):
    """The server is about to make a call: its arguments are valid and policy allows it."""

    call: ToolCall
    tool: Bound


Outcome = Literal["ok", "failed", "unknown", "invalid", "denied"]
"""``failed``: the tool says so; ``unknown``: there is no such tool; ``invalid``: the arguments do not fit its schema;
``denied``: policy, a shield or a person does not allow it. Of the last three nothing was called."""


class CallEnded(Struct, frozen=True):
    """A call is over; ``result.text`` is what the model reads of it. ``tool`` is None for an unknown one.

    ``rule`` names what decided when the outcome is ``denied``: ``tainted``, ``shield``, ``person``, ``repeated`` (the very
    same call again and again), or a limit: ``steps``, ``calls``, ``tokens``. With ``failed`` it is ``shield`` where one
    withheld the result.
    """

    call: ToolCall
    tool: Bound | None
    outcome: Outcome
    result: ToolResult
    rule: str = ""


class ApprovalAsked(Struct, frozen=True):
    """A call waits for a person; the run ends after the other calls of its step."""

    call: ToolCall
    tool: Bound


class StepDone(Struct, frozen=True):
    """One answer of the model and its calls are over, or the calls that a person was asked about; ``messages`` (OpenAI's
    JSON objects) are what they added to the conversation. A run that is cut goes on from the last of these."""

    messages: tuple[Mapping[str, Any], ...]
    used: Used
    usage: Usage
    tainted: bool


Reason = Literal["stop", "length", "tool_calls", "content_filter", "approval", "steps", "tokens", "wall"]
"""``tool_calls``: functions of the client are to be called; ``approval``: a person is to be asked; the last three are
limits of the run."""


class Ended(Struct, frozen=True):
    """The last event. ``calls`` are those that the client has to run; ``usage`` is that of all steps."""

    reason: Reason
    calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()


Event = Delta | CallBegun | CallEnded | ApprovalAsked | StepDone | Ended
"""A ``Delta`` is a piece of text, reasoning, a refusal or an annotation; its ``tool_calls`` are those of the client."""


class Runner(Protocol):
    """An agent as routes see it beside ports.Inference: what it adds to a task, and the run itself."""

    def task(self, chat: Chat, context: Context) -> Task:
        """The agent's own instructions, tools, limits and policy around a client's request."""
        ...

    def run(self, task: Task, context: Context) -> Iterator[Event]:
        """Run to the end or to a limit; closing the iterator stops the work. ApiError as in ports.Inference."""
        ...


def messages_after(task: Task, steps: Sequence[StepDone]) -> list[Mapping[str, Any]]:
    """The conversation after these steps of the task."""
    return [*task.chat.messages, *(message for step in steps for message in step.messages)]
