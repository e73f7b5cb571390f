"""Answers on the wire of Google's interactions: deltas of a port become steps or the events of a stream; its errors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from lsbuild_runtime.http import ApiError, Errors
from lsbuild_runtime.ports import Annotation, Delta, ToolCall, Usage
from lsbuild_runtime.routes.chat_answer import arguments
from lsbuild_runtime.routes.wire import worded

_NOTHING = Delta()
DONE = b"data: [DONE]\n\n"
_CODES = {401: "unauthenticated", 403: "permission_denied", 404: "not_found", 408: "deadline_exceeded",
          429: "resource_exhausted", 503: "unavailable"}  # fmt: skip
_NAMES = {
    "messages": "input",
    "max_tokens": "generation_config.max_output_tokens",
    "reasoning_effort": "generation_config.thinking_level",
    "seed": "generation_config.seed",
    "stop": "generation_config.stop_sequences",
    "tool_choice": "generation_config.tool_choice",
}
_STATUS = {"stop": "completed", "length": "incomplete", "tool_calls": "requires_action", "content_filter": "incomplete"}


class GoogleErrorDetail(Struct):
    """What went wrong."""

    code: str
    message: str


class GoogleError(Struct):
    """Google's error. The message begins with the parameter at fault."""

    error: GoogleErrorDetail


class ErrorEvent(Struct, tag_field="event_type", tag="error"):
    """The last event of a stream that failed."""

    error: GoogleErrorDetail


class InteractionErrors(Errors):
    """Google's shape; the code follows from the status."""

    shape = GoogleError

    def body(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 - Google's bodies do not repeat it
        """``{"error": {"code", "message"}}``."""
        return msgspec.json.encode(GoogleError(_detail(error)))

    def event(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 - nor do its events
        """``event: error``."""
        return named(ErrorEvent(_detail(error)))


def _detail(error: ApiError) -> GoogleErrorDetail:
    usual = "invalid_argument" if error.status < 500 else "internal"
    return GoogleErrorDetail(_CODES.get(error.status, usual), worded(error, _NAMES))


ERRORS = InteractionErrors()


class Citation(Struct, tag_field="type", tag="file_citation"):
    """A citation: the file, the byte of the text where the citation stands, and where in the file."""

    file_name: str
    start_index: int
    end_index: int
    custom_metadata: dict[str, Any]


class OutputText(Struct, tag_field="type", tag="text"):
    """A text."""

    text: str
    annotations: list[Citation] | UnsetType = UNSET


class ModelOutput(Struct, tag_field="type", tag="model_output"):
    """What the model says."""

    content: list[OutputText] | UnsetType = UNSET


class Thought(Struct, tag_field="type", tag="thought"):
    """What the model thinks; it is not signed."""

    summary: list[OutputText] | UnsetType = UNSET


class Call(Struct, tag_field="type", tag="function_call"):
    """A call that the model makes."""

    id: str
    name: str
    arguments: dict[str, Any]


Step = ModelOutput | Thought | Call


class InteractionUsage(Struct):
    """Token counts."""

    total_input_tokens: int
    total_output_tokens: int
    total_cached_tokens: int
    total_tokens: int


class Interaction(Struct, kw_only=True):
    """The whole answer, or in a stream what is known of it. ``outputs`` are the steps in the reference server's form."""

    id: str
    object: str = "interaction"
    created: str
    updated: str
    status: str
    model: str
    role: str = "model"
    agent: str | UnsetType = UNSET
    labels: dict[str, str] | UnsetType = UNSET
    steps: list[Step] | UnsetType = UNSET
    outputs: list[OutputText | Thought | Call] | UnsetType = UNSET
    usage: InteractionUsage | UnsetType = UNSET


class TextDelta(Struct, tag_field="type", tag="text"):
    """More text."""

    text: str


class ThoughtDelta(Struct, tag_field="type", tag="thought_summary"):
    """More thoughts."""

    content: OutputText


class ArgumentsDelta(Struct, tag_field="type", tag="arguments_delta"):
    """The arguments of a call."""

    arguments: str


class AnnotationDelta(Struct, tag_field="type", tag="text_annotation_delta"):
    """Citations of the text before."""

    annotations: list[Citation]


AnyDelta = TextDelta | ThoughtDelta | ArgumentsDelta | AnnotationDelta


class Created(Struct, tag_field="event_type", tag="interaction.created"):
    """The first event."""

    interaction: Interaction


class StepStart(Struct, tag_field="event_type", tag="step.start"):
    """A step begins."""

    index: int
    step: Step


class StepDelta(Struct, tag_field="event_type", tag="step.delta"):
    """A step goes on."""

    index: int
    delta: AnyDelta


class StepStop(Struct, tag_field="event_type", tag="step.stop"):
    """A step ends."""

    index: int


class Completed(Struct, tag_field="event_type", tag="interaction.completed"):
    """The last event."""

    interaction: Interaction


Event = Created | StepStart | StepDelta | StepStop | Completed


class Asked(Struct, frozen=True):
    """What the answer needs of the request."""

    model: str
    agent: str | None = None
    labels: dict[str, str] | None = None
    thoughts: bool = False


def named(event: Event | ErrorEvent) -> bytes:
    """An event as it is sent: under the name of its type."""
    name: str = event.__struct_config__.tag  # type: ignore[assignment]
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def whole(deltas: Iterator[Delta], asked: Asked) -> Interaction:
    """All events as one interaction."""
    steps: list[Step] = []
    for event in events(deltas, asked):
        if isinstance(event, StepStart):
            steps.append(event.step)
        elif isinstance(event, StepDelta):
            _extend(steps[event.index], event.delta)
        elif isinstance(event, Completed):
            event.interaction.steps = steps
            event.interaction.outputs = _outputs(steps)
            return event.interaction
    raise AssertionError("a stream ends with interaction.completed")


def events(deltas: Iterator[Delta], asked: Asked) -> Iterator[Event]:
    """The events of a stream; nothing is sent before the model has begun."""
    answer = Interaction(
        id=f"int_{os.urandom(12).hex()}",
        created=_now(),
        updated=_now(),
        status="in_progress",
        model=asked.model,
        agent=asked.agent or UNSET,
        labels=asked.labels or UNSET,
    )
    steps, usage, status = _Steps(), Usage(), "completed"
    for place, delta in enumerate(chain(deltas, (_NOTHING,))):
        if not place:
            yield Created(answer)
        if delta.reasoning and asked.thoughts:
            yield from steps.thought(delta.reasoning)
        if delta.text or delta.refusal:
            yield from steps.text(delta.text + delta.refusal)
        if delta.annotations:
            yield from steps.annotations(delta.annotations)
        for call in delta.tool_calls:
            yield from steps.call(call)
        usage = delta.usage or usage
        status = _STATUS[delta.finish] if delta.finish else status
    yield from steps.close()
    yield Completed(msgspec.structs.replace(answer, status=status, updated=_now(), usage=_usage(usage)))


class _Steps:
    """The steps of a stream: one is open at a time."""

    def __init__(self) -> None:
        self._index = -1
        self._open: type[Step] | None = None
        self._said = ""

    def thought(self, text: str) -> Iterator[Event]:
        yield from self._opened(Thought())
        yield StepDelta(self._index, ThoughtDelta(OutputText(text)))

    def text(self, text: str) -> Iterator[Event]:
        yield from self._opened(ModelOutput())
        self._said += text
        yield StepDelta(self._index, TextDelta(text))

    def annotations(self, found: Sequence[Annotation]) -> Iterator[Event]:
        yield from self._opened(ModelOutput())
        yield StepDelta(self._index, AnnotationDelta([self._citation(each) for each in found]))

    def call(self, call: ToolCall) -> Iterator[Event]:
        yield from self.close()
        yield from self._opened(Call(call.id, call.name, {}))
        yield StepDelta(self._index, ArgumentsDelta(msgspec.json.encode(arguments(call)).decode()))

    def close(self) -> Iterator[Event]:
        if self._open is not None:
            self._open = None
            yield StepStop(self._index)

    def _opened(self, step: Step) -> Iterator[Event]:
        if self._open is type(step):
            return
        yield from self.close()
        self._open = type(step)
        self._index += 1
        yield StepStart(self._index, step)

    def _citation(self, found: Annotation) -> Citation:
        place = len(self._said[: found.index].encode())
        named = ("file_id", "store", "quote", "heading", "start", "end", "line_start", "line_end")
        return Citation(found.filename, place, place, {name: getattr(found, name) for name in named})


def _extend(step: Step, delta: AnyDelta) -> None:
    if isinstance(step, Call) and isinstance(delta, ArgumentsDelta):
        step.arguments = msgspec.json.decode(delta.arguments)
    elif isinstance(step, Thought) and isinstance(delta, ThoughtDelta):
        step.summary = [OutputText("".join(each.text for each in (*(step.summary or ()), delta.content)))]
    elif isinstance(step, ModelOutput):
        (text,) = step.content = step.content or [OutputText("")]
        if isinstance(delta, TextDelta):
            text.text += delta.text
        elif isinstance(delta, AnnotationDelta):
            text.annotations = [*(text.annotations or ()), *delta.annotations]


def _outputs(steps: Sequence[Step]) -> list[OutputText | Thought | Call]:
    outputs: list[OutputText | Thought | Call] = []
    for step in steps:
        outputs.extend((step.content or []) if isinstance(step, ModelOutput) else [step])
    return outputs


def _usage(usage: Usage) -> InteractionUsage:
    return InteractionUsage(usage.prompt, usage.completion, usage.cached, usage.prompt + usage.completion)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
