"""The other server's answers: their JSON as Structs, and as deltas of the port. Unknown fields are passed over."""

from __future__ import annotations

import math
import struct
from binascii import Error, a2b_base64
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.ports import Delta, FinishReason, TokenLogprob, ToolCall, Usage

Raw = list[Annotated[int, Meta(ge=0, le=255)]]


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    id: str | None = None
    function: _Function | None = None
    index: int = 0


class _Message(Struct):
    """Of an answer, or the delta of a stream."""

    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None
    refusal: str | None = None


class _Top(Struct):
    token: str
    logprob: float
    bytes: Raw | None = None


class _Token(Struct):
    token: str
    logprob: float
    bytes: Raw | None = None
    top_logprobs: list[_Top] = []


class _Logprobs(Struct):
    content: list[_Token] | None = None


class _Cached(Struct):
    cached_tokens: int | None = None


class UsageBody(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None


class Fault(Struct):
    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


class Faulty(Struct):
    error: Fault | str | None = None


class _Choice(Struct):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    """vLLM's: the stop text that was met, or the id of a token."""

    @property
    def stop(self) -> str:
        return self.stop_reason if isinstance(self.stop_reason, str) else ""


class Answer(Struct):
    """A completion or an event."""

    choices: list[_Choice] = []
    usage: UsageBody | None = None
    error: Fault | None = None


class _TextLogprobs(Struct):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class _TextChoice(Struct):
    index: int = 0
    text: str = ""
    logprobs: _TextLogprobs | None = None
    finish_reason: str | None = None


class TextAnswer(Struct):
    choices: list[_TextChoice] = []
    usage: UsageBody | None = None
    error: Fault | None = None


class _Vector(Struct):
    embedding: str | list[float]
    index: int = 0


class Vectors(Struct):
    data: list[_Vector]
    usage: UsageBody | None = None


ANSWER = msgspec.json.Decoder(Answer)
TEXT_ANSWER = msgspec.json.Decoder(TextAnswer)
VECTORS = msgspec.json.Decoder(Vectors)
FAULTY = msgspec.json.Decoder(Faulty)
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def whole(answer: Answer) -> Iterator[Delta]:
    """One delta for each choice of a complete answer."""
    for choice in answer.choices:
        message = choice.message or _Message()
        yield Delta(
            choice.index,
            message.content or message.refusal or "",
            message.reasoning_content or "",
            tuple(_call(call) for call in message.tool_calls or ()),
            _tokens(choice.logprobs),
            finish=_FINISH.get(choice.finish_reason or "", "stop"),
            stop=choice.stop,
        )
    yield Delta(usage=_usage(answer.usage))


def streamed(events: Iterator[Answer]) -> Iterator[Delta]:
    """One delta for each event; the pieces of tool calls are put together and come with the finish."""
    calls: dict[int, dict[int, _Call]] = {}
    for event in events:
        for choice in event.choices:
            piece = choice.delta or _Message()
            for call in piece.tool_calls or ():
                _gather(calls.setdefault(choice.index, {}), call)
            finish = _FINISH.get(choice.finish_reason, "stop") if choice.finish_reason else None
            done = calls.pop(choice.index, {}) if finish else {}
            delta = Delta(
                choice.index,
                piece.content or piece.refusal or "",
                piece.reasoning_content or "",
                tuple(_call(done[index]) for index in sorted(done)),
                _tokens(choice.logprobs),
                finish=finish,
                stop=choice.stop,
            )
            if delta != Delta(choice.index):
                yield delta
        if event.usage is not None:
            yield Delta(usage=_usage(event.usage))


def _gather(calls: dict[int, _Call], piece: _Call) -> None:
    known = calls.setdefault(piece.index, _Call("", _Function("", "")))
    function = known.function = known.function or _Function("", "")
    known.id = known.id or piece.id
    if piece.function is not None:
        function.name = function.name or piece.function.name
        function.arguments = (function.arguments or "") + (piece.function.arguments or "")


def _call(call: _Call) -> ToolCall:
    function = call.function or _Function()
    return ToolCall(call.id or "", function.name or "", function.arguments or "")


def _usage(usage: UsageBody | None) -> Usage:
    if usage is None:
        return Usage()
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    return Usage(usage.prompt_tokens, usage.completion_tokens, cached or 0)


def _tokens(logprobs: _Logprobs | None) -> tuple[TokenLogprob, ...]:
    if logprobs is None or not logprobs.content:
        return ()
    return tuple(
        TokenLogprob(
            token.token,
            token.logprob,
            _raw(token),
            tuple(TokenLogprob(top.token, top.logprob, _raw(top)) for top in token.top_logprobs),
        )
        for token in logprobs.content
    )


def _raw(token: _Token | _Top) -> bytes:
    return token.token.encode() if token.bytes is None else bytes(token.bytes)


def text_deltas(answers: Iterator[TextAnswer]) -> Iterator[Delta]:
    for answer in answers:
        for choice in answer.choices:
            finish = _FINISH.get(choice.finish_reason, "stop") if choice.finish_reason else None
            yield Delta(choice.index, choice.text, logprobs=_text_tokens(choice.logprobs), finish=finish)
        if answer.usage is not None:
            yield Delta(usage=_usage(answer.usage))


def _text_tokens(logprobs: _TextLogprobs | None) -> tuple[TokenLogprob, ...]:
    if logprobs is None:
        return ()
    tops = logprobs.top_logprobs or [None] * len(logprobs.tokens)
    return tuple(
        TokenLogprob(
            token,
            math.nan if value is None else value,
            token.encode(),
            tuple(TokenLogprob(other, share, other.encode()) for other, share in (top or {}).items()),
        )
        for token, value, top in zip(logprobs.tokens, logprobs.token_logprobs, tops, strict=False)
    )


def vector_bytes(vector: str | list[float]) -> bytes:
    """Little-endian float32; ValueError when the text is not the base64 of some."""
    if not isinstance(vector, str):
        return struct.pack(f"<{len(vector)}f", *vector)
    try:
        data = a2b_base64(vector, strict_mode=True)
    except Error as error:
        raise ValueError(f"a vector is not base64: {error}") from error
    if not data or len(data) % 4:
        raise ValueError(f"a vector of {len(data)} bytes is not float32")
    return data
