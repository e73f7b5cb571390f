"""Chat answers on the wire: deltas of a port become one completion or the events of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from lsbuild_runtime.http import Attempt
from lsbuild_runtime.ports import Annotation, Delta, FinishReason, TokenLogprob, ToolCall, Usage
from lsbuild_runtime.routes.sampling import UsageBody, clamp, served, usage_body

UNREADABLE = "INVALID_JSON"
"""Under this key stand the arguments of a call that are no JSON object, where an API wants one; Anthropic's advice."""


class TopLogprob(Struct):
    """One alternative token."""

    token: str
    logprob: float
    bytes: list[int]


class LogprobEntry(Struct):
    """One generated token."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Struct):
    """Log probabilities of a choice."""

    content: list[LogprobEntry]
    refusal: None = None


class FunctionBody(Struct):
    """A call on the wire."""

    name: str
    arguments: str


class ToolCallBody(Struct):
    """A tool call on the wire; ``index`` only in streams."""

    id: str
    type: str
    function: FunctionBody
    index: int | UnsetType = UNSET


class Citation(Struct):
    """A cited file: OpenAI's three fields, then where in the file. ``index`` is the place in the answer."""

    file_id: str
    filename: str
    index: int
    vector_store_id: str
    start: int
    end: int
    line_start: int
    line_end: int
    heading: str
    quote: str


class AnnotationBody(Struct):
    """An annotation of an answer."""

    type: str
    file_citation: Citation


class AnswerMessage(Struct):
    """The whole message of a choice."""

    role: str
    content: str | None
    refusal: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallBody] | UnsetType = UNSET
    annotations: list[AnnotationBody] | UnsetType = UNSET


class Choice(Struct):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Struct):
    """The answer to a request that does not stream."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: UsageBody
    system_fingerprint: str
    metadata: dict[str, str] | UnsetType = UNSET


class DeltaBody(Struct):
    """A piece of a message."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallBody] | UnsetType = UNSET
    annotations: list[AnnotationBody] | UnsetType = UNSET


class ChunkChoice(Struct):
    """A piece of one answer."""

    index: int
    delta: DeltaBody
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Struct):
    """One event of a stream; with ``include_usage`` the last one has no choices and the usage.

    The first one has the ``metadata`` of a routed answer.
    """

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: UsageBody | UnsetType | None = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class Head(Struct, frozen=True):
    """What every event of one answer repeats, and the trail of its request, which is complete with the first delta."""

    id: str
    created: int
    model: str
    fingerprint: str
    trail: Sequence[Attempt] = ()


class Gathered(Struct):
    """One choice while its deltas come in."""

    text: list[str] = []
    refusal: str = ""
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    logprobs: list[TokenLogprob] | None = None
    annotations: list[Annotation] = []
    finish: FinishReason = "stop"

    def add(self, delta: Delta) -> None:
        """Take one more piece."""
        self.text.append(delta.text)
        self.reasoning.append(delta.reasoning)
        self.calls.extend(delta.tool_calls)
        self.annotations.extend(delta.annotations)
        if delta.logprobs:
            self.logprobs = [*(self.logprobs or ()), *delta.logprobs]
        self.refusal += delta.refusal
        self.finish = delta.finish or self.finish


def whole(deltas: Iterator[Delta], head: Head) -> ChatCompletion:
    """All deltas as one answer."""
    choices: dict[int, Gathered] = {}
    usage = Usage()
    for delta in deltas:
        choices.setdefault(delta.index, Gathered()).add(delta)
        usage = delta.usage or usage
    return ChatCompletion(
        id=head.id,
        object="chat.completion",
        created=head.created,
        model=head.model,
        choices=[_choice(index, choices[index]) for index in sorted(choices)],
        usage=usage_body(usage),
        system_fingerprint=head.fingerprint,
        metadata=served(head.trail),
    )


def _choice(index: int, got: Gathered) -> Choice:
    text, reasoning = "".join(got.text), "".join(got.reasoning)
    message = AnswerMessage(
        role="assistant",
        content=text if text or not (got.calls or got.refusal) else None,
        refusal=got.refusal or None,
        reasoning_content=reasoning or UNSET,
        tool_calls=_calls(got.calls) if got.calls else UNSET,
        annotations=[_annotation(found) for found in got.annotations] or UNSET,
    )
    return Choice(index, message, _choice_logprobs(got.logprobs), got.finish)


def events(deltas: Iterator[Delta], head: Head, with_usage: bool) -> Iterator[ChatChunk]:
    """One event for each delta; the first of each choice carries the role."""
    seen: dict[int, int] = {}
    usage = Usage()
    blank: UsageBody | UnsetType | None = None if with_usage else UNSET
    for delta in deltas:
        usage = delta.usage or usage
        if delta.usage is None or delta != Delta(delta.index, usage=delta.usage):
            first = not seen
            chunk = _chunk(head, [_chunk_choice(delta, seen)], blank)
            if first:
                chunk.metadata = served(head.trail)
            yield chunk
    if with_usage:
        yield _chunk(head, [], usage_body(usage))


def _chunk(head: Head, choices: list[ChunkChoice], usage: UsageBody | UnsetType | None) -> ChatChunk:
    return ChatChunk(head.id, "chat.completion.chunk", head.created, head.model, head.fingerprint, choices, usage)


def _chunk_choice(delta: Delta, seen: dict[int, int]) -> ChunkChoice:
    """``seen`` counts the tool calls sent for each choice that has begun."""
    begun = delta.index in seen
    first_call = seen.setdefault(delta.index, 0)
    seen[delta.index] += len(delta.tool_calls)
    body = DeltaBody(
        role=UNSET if begun else "assistant",
        content=delta.text if delta.text or not begun else UNSET,
        refusal=delta.refusal or UNSET,
        reasoning_content=delta.reasoning or UNSET,
        tool_calls=_calls(delta.tool_calls, first_call) if delta.tool_calls else UNSET,
        annotations=[_annotation(found) for found in delta.annotations] if delta.annotations else UNSET,
    )
    return ChunkChoice(delta.index, body, _choice_logprobs(delta.logprobs), delta.finish)


def _calls(calls: list[ToolCall] | tuple[ToolCall, ...], first: int | None = None) -> list[ToolCallBody]:
    return [
        ToolCallBody(
            call.id,
            "function",
            FunctionBody(call.name, call.arguments),
            UNSET if first is None else first + offset,
        )
        for offset, call in enumerate(calls)
    ]


def arguments(call: ToolCall) -> dict[str, Any]:
    """What a call is called with: its JSON object, or what the model wrote instead of one."""
    try:
        return msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {UNREADABLE: call.arguments}


def _choice_logprobs(tokens: list[TokenLogprob] | tuple[TokenLogprob, ...] | None) -> ChoiceLogprobs | None:
    if not tokens:
        return None
    return ChoiceLogprobs(
        [
            LogprobEntry(
                token.token,
                clamp(token.logprob),
                list(token.raw),
                [TopLogprob(other.token, clamp(other.logprob), list(other.raw)) for other in token.top],
            )
            for token in tokens
        ]
    )


def _annotation(found: Annotation) -> AnnotationBody:
    return AnnotationBody(
        "file_citation",
        Citation(
            file_id=found.file_id,
            filename=found.filename,
            index=found.index,
            vector_store_id=found.store,
            start=found.start,
            end=found.end,
            line_start=found.line_start,
            line_end=found.line_end,
            heading=found.heading,
            quote=found.quote,
        ),
    )
