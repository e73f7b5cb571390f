"""Deltas of a port as the events of Anthropic's streams, and as one message: pure functions of what comes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import msgspec
from msgspec import Struct

from lsbuild_runtime.ids import new_id
from lsbuild_runtime.ports import Annotation, Delta, ToolCall, Usage
from lsbuild_runtime.routes.anthropic.answer import (
    AnswerBlock,
    AnswerText,
    AnswerThinking,
    AnswerToolUse,
    BlockDelta,
    BlockStart,
    BlockStop,
    CharLocation,
    CitationsDelta,
    Event,
    InputDelta,
    Message,
    MessageDelta,
    MessageStart,
    MessageStop,
    StopDelta,
    StopDetails,
    TextDelta,
    ThinkingDelta,
    UsageCounts,
)
from lsbuild_runtime.routes.chat_answer import arguments

_NOTHING = Delta()
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class Asked(Struct, frozen=True):
    """What the answer needs of the request."""

    model: str
    stops: tuple[str, ...] = ()
    thinking: bool = False


class _End(Struct):
    """Why an answer ends, while its deltas come in."""

    reason: str = "end_turn"
    stop: str | None = None
    refusal: str = ""
    usage: Usage = Usage()

    def add(self, delta: Delta, asked: Asked) -> None:
        if delta.finish is not None:
            self.reason = _STOP_REASONS[delta.finish]
            if delta.finish == "stop" and delta.stop in asked.stops:
                self.reason, self.stop = "stop_sequence", delta.stop
        self.refusal += delta.refusal
        self.usage = delta.usage or self.usage

    def delta(self) -> StopDelta:
        if self.refusal or self.reason == "refusal":
            return StopDelta("refusal", None, StopDetails(self.refusal))
        return StopDelta(self.reason, self.stop)


def whole(deltas: Iterator[Delta], asked: Asked) -> Message:
    """All events as one message: what the official client makes of a stream."""
    answer = _empty(asked)
    for event in events(deltas, asked):
        if isinstance(event, BlockStart):
            answer.content.append(event.content_block)
        elif isinstance(event, BlockDelta):
            _extend(answer.content[event.index], event.delta)
        elif isinstance(event, MessageDelta):
            answer.stop_reason, answer.stop_sequence = event.delta.stop_reason, event.delta.stop_sequence
            answer.stop_details = event.delta.stop_details or None
            answer.usage = event.usage
    return answer


def events(deltas: Iterator[Delta], asked: Asked) -> Iterator[Event]:
    """The events of a stream; nothing is sent before the model has begun."""
    blocks, end = _Blocks(), _End()
    for place, delta in enumerate(chain(deltas, (_NOTHING,))):
        if not place:
            yield MessageStart(_empty(asked))
        end.add(delta, asked)
        if delta.reasoning and asked.thinking:
            yield from blocks.thinking(delta.reasoning)
        if delta.text:
            yield from blocks.text(delta.text)
        for annotation in delta.annotations:
            yield from blocks.citation(annotation)
        for call in delta.tool_calls:
            yield from blocks.call(call)
    yield from blocks.close()
    yield MessageDelta(end.delta(), counts(end.usage))
    yield MessageStop()


class _Blocks:
    """The blocks of a stream: one is open at a time."""

    def __init__(self) -> None:
        self._index = -1
        self._open: type[AnswerBlock] | None = None
        self._documents: dict[str, int] = {}

    def thinking(self, text: str) -> Iterator[Event]:
        yield from self._opened(AnswerThinking(""))
        yield BlockDelta(self._index, ThinkingDelta(text))

    def text(self, text: str) -> Iterator[Event]:
        yield from self._opened(AnswerText(""))
        yield BlockDelta(self._index, TextDelta(text))

    def citation(self, found: Annotation) -> Iterator[Event]:
        yield from self._opened(AnswerText(""))
        number = self._documents.setdefault(found.file_id, len(self._documents))
        place = CharLocation(found.quote, number, found.filename, found.start, found.end, found.file_id)
        yield BlockDelta(self._index, CitationsDelta(place))

    def call(self, call: ToolCall) -> Iterator[Event]:
        yield from self.close()
        yield from self._opened(AnswerToolUse(call.id, call.name, {}))
        yield BlockDelta(self._index, InputDelta(msgspec.json.encode(arguments(call)).decode()))

    def close(self) -> Iterator[Event]:
        if self._open is not None:
            self._open = None
            yield BlockStop(self._index)

    def _opened(self, block: AnswerBlock) -> Iterator[Event]:
        if self._open is type(block):
            return
        yield from self.close()
        self._open = type(block)
        self._index += 1
        yield BlockStart(self._index, block)


def _extend(block: AnswerBlock, delta: TextDelta | ThinkingDelta | InputDelta | CitationsDelta) -> None:
    if isinstance(block, AnswerThinking) and isinstance(delta, ThinkingDelta):
        block.thinking += delta.thinking
    elif isinstance(block, AnswerToolUse) and isinstance(delta, InputDelta):
        block.input = msgspec.json.decode(delta.partial_json)
    elif isinstance(block, AnswerText) and isinstance(delta, CitationsDelta):
        block.citations = [*(block.citations or ()), delta.citation]
    elif isinstance(block, AnswerText) and isinstance(delta, TextDelta):
        block.text += delta.text


def counts(usage: Usage) -> UsageCounts:
    """Anthropic's form of ``usage``."""
    return UsageCounts(usage.prompt - usage.cached, usage.completion, usage.cached)


def _empty(asked: Asked) -> Message:
    return Message(id=new_id("msg_"), model=asked.model, content=[], usage=counts(Usage()))
