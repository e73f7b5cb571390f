"""Deltas of a port as the events of Google's streams, and as one interaction: pure functions of what comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import msgspec
from msgspec import UNSET, Struct

from lsbuild_runtime.ids import new_id
from lsbuild_runtime.ports import Annotation, Delta, ToolCall, Usage
from lsbuild_runtime.routes.chat_answer import arguments
from lsbuild_runtime.routes.google.answer import (
    AnnotationDelta,
    AnyDelta,
    ArgumentsDelta,
    Call,
    Citation,
    Completed,
    Created,
    Event,
    Interaction,
    InteractionUsage,
    ModelOutput,
    OutputText,
    Step,
    StepDelta,
    StepStart,
    StepStop,
    TextDelta,
    Thought,
    ThoughtDelta,
)

_NOTHING = Delta()
_STATUS = {"stop": "completed", "length": "incomplete", "tool_calls": "requires_action", "content_filter": "incomplete"}


Keep = Callable[[Interaction], None]
"""Keeps a whole interaction, or not."""


class Asked(Struct, frozen=True):
    """What the answer needs of the request."""

    model: str
    agent: str | None = None
    labels: dict[str, str] | None = None
    thoughts: bool = False
    previous: str | None = None


def whole(deltas: Iterator[Delta], asked: Asked, keep: Keep) -> Interaction:
    """All events as one interaction, which is kept."""
    found: list[Interaction] = []
    for _ in kept(events(deltas, asked), found.append):
        pass
    (answer,) = found
    keep(answer)
    return answer


def kept(events: Iterator[Event], keep: Keep) -> Iterator[Event]:
    """``events``; the whole interaction is kept before the last of them is passed on."""
    steps: list[Step] = []
    for event in events:
        if isinstance(event, StepStart):
            steps.append(msgspec.structs.replace(event.step))
        elif isinstance(event, StepDelta):
            _extend(steps[event.index], event.delta)
        elif isinstance(event, Completed):
            keep(msgspec.structs.replace(event.interaction, steps=steps, outputs=_outputs(steps)))
        yield event


def events(deltas: Iterator[Delta], asked: Asked) -> Iterator[Event]:
    """The events of a stream; nothing is sent before the model has begun."""
    answer = Interaction(
        id=new_id("int_"),
        created=_now(),
        updated=_now(),
        status="in_progress",
        model=asked.model,
        agent=asked.agent or UNSET,
        labels=asked.labels or UNSET,
        previous_interaction_id=asked.previous or UNSET,
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
