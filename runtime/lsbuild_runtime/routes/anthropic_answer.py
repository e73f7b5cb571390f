"""Answers on Anthropic's wire: deltas of a port become one message or the events of a stream; errors in its words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from lsbuild_runtime.http import ApiError, Errors
from lsbuild_runtime.ports import Annotation, Delta, ToolCall, Usage
from lsbuild_runtime.routes.chat_answer import arguments
from lsbuild_runtime.routes.wire import worded

_NOTHING = Delta()
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_NAMES = {
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "stop": "stop_sequences",
}
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class AnthropicErrorDetail(Struct):
    """What went wrong."""

    type: str
    message: str


class AnthropicError(Struct):
    """Anthropic's error. The message begins with the parameter at fault."""

    type: str
    error: AnthropicErrorDetail
    request_id: str


class AnthropicErrors(Errors):
    """Anthropic's shape; the type follows from the status."""

    shape = AnthropicError

    def body(self, error: ApiError, request_id: str) -> bytes:
        """``{"type": "error", "error": {"type", "message"}, "request_id"}``."""
        usual = "invalid_request_error" if error.status < 500 else "api_error"
        detail = AnthropicErrorDetail(_TYPES.get(error.status, usual), worded(error, _NAMES))
        return msgspec.json.encode(AnthropicError("error", detail, request_id))

    def event(self, error: ApiError, request_id: str) -> bytes:
        """``event: error``."""
        return b"event: error\ndata: " + self.body(error, request_id) + b"\n\n"

    def headers(self, request_id: str) -> dict[str, str]:
        """The id under the name that Anthropic's clients read."""
        return {"request-id": request_id}


ERRORS = AnthropicErrors()


class CharLocation(Struct, tag_field="type", tag="char_location"):
    """A citation. ``document_index`` counts the cited documents in the order they are cited; offsets are the document's."""

    cited_text: str
    document_index: int
    document_title: str
    start_char_index: int
    end_char_index: int
    file_id: str


class AnswerText(Struct, tag_field="type", tag="text"):
    """What the model says."""

    text: str
    citations: list[CharLocation] | None = None


class AnswerThinking(Struct, tag_field="type", tag="thinking"):
    """What the model thinks; it is not signed."""

    thinking: str
    signature: str = ""


class AnswerToolUse(Struct, tag_field="type", tag="tool_use"):
    """A call that the model makes."""

    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = AnswerText | AnswerThinking | AnswerToolUse


class StopDetails(Struct, tag_field="type", tag="refusal"):
    """Why an answer was refused."""

    explanation: str
    category: None = None


class UsageCounts(Struct):
    """Token counts. Those that were not computed again are counted apart, so that all inputs together are the prompt."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int = 0


class Message(Struct, kw_only=True):
    """The whole answer, or what a stream begins with."""

    id: str
    type: str = "message"
    role: str = "assistant"
    model: str
    content: list[AnswerBlock]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: UsageCounts


class TokenCount(Struct):
    """The answer of count_tokens."""

    input_tokens: int


class TextDelta(Struct, tag_field="type", tag="text_delta"):
    """More text."""

    text: str


class ThinkingDelta(Struct, tag_field="type", tag="thinking_delta"):
    """More thoughts."""

    thinking: str


class InputDelta(Struct, tag_field="type", tag="input_json_delta"):
    """The arguments of a call."""

    partial_json: str


class CitationsDelta(Struct, tag_field="type", tag="citations_delta"):
    """One more citation of the open text."""

    citation: CharLocation


class MessageStart(Struct, tag_field="type", tag="message_start"):
    """The first event."""

    message: Message


class BlockStart(Struct, tag_field="type", tag="content_block_start"):
    """A block begins."""

    index: int
    content_block: AnswerBlock


class BlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    """A block goes on."""

    index: int
    delta: TextDelta | ThinkingDelta | InputDelta | CitationsDelta


class BlockStop(Struct, tag_field="type", tag="content_block_stop"):
    """A block ends."""

    index: int


class StopDelta(Struct):
    """Why the answer ends."""

    stop_reason: str
    stop_sequence: str | None
    stop_details: StopDetails | UnsetType = UNSET


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    """The end, with the counts of all."""

    delta: StopDelta
    usage: UsageCounts


class MessageStop(Struct, tag_field="type", tag="message_stop"):
    """The last event."""


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


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


def named(event: Event) -> bytes:
    """An event as it is sent: under the name of its type."""
    name: str = event.__struct_config__.tag  # type: ignore[assignment]
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


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
    return Message(id=f"msg_{os.urandom(12).hex()}", model=asked.model, content=[], usage=counts(Usage()))
