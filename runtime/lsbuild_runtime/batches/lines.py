"""The lines of a batch's file: each a request, or what is wrong with it; and the lines of its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from lsbuild_runtime.ids import new_id

MOST_LINES = 10_000
"""Requests of one batch: their answers are put together in memory."""
_LONGEST = 200


class Fault(Struct, frozen=True):
    """What is wrong with a line, or with the whole file (line None)."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Line(Struct, frozen=True):
    """One request. ``number`` counts all lines of the file from 1; ``body`` is JSON."""

    number: int
    custom_id: str
    body: bytes


class Unreadable(Struct, frozen=True):
    """A line that cannot be asked."""

    number: int
    custom_id: str | None
    fault: Fault


class _Wire(Struct, forbid_unknown_fields=True):
    custom_id: Annotated[str, Meta(min_length=1, max_length=512)]
    method: str
    url: str
    body: Raw


class _Named(Struct):
    custom_id: str | None = None


class _Body(Struct):
    stream: bool | None = None


class _Answered(Struct):
    status_code: int
    request_id: str
    body: Raw


class _AnswerLine(Struct):
    id: str
    custom_id: str | None
    response: _Answered | None
    error: Fault | None


_WIRE = msgspec.json.Decoder(_Wire)
_NAMED = msgspec.json.Decoder(_Named)
_BODY = msgspec.json.Decoder(_Body)
_OBJECT = msgspec.json.Decoder(dict[str, Raw])


def read(content: bytes, endpoint: str) -> Iterator[Line | Unreadable]:
    """Every line that is not blank, in order."""
    seen: set[str] = set()
    for number, data in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if data.strip():
            line = _line(number, data, endpoint)
            if isinstance(line, Line):
                if line.custom_id in seen:
                    shown = line.custom_id[:_LONGEST]
                    line = _wrong(number, f"an earlier line is {shown!r} as well", "custom_id", line.custom_id)
                else:
                    seen.add(line.custom_id)
            yield line


def _line(number: int, data: bytes, endpoint: str) -> Line | Unreadable:
    try:
        wire = _WIRE.decode(data)
        body = bytes(wire.body)
        _OBJECT.decode(body)
        stream = _BODY.decode(body).stream
    except msgspec.ValidationError as error:
        return _wrong(number, str(error), None, _name(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Unreadable(number, None, Fault("invalid_json", f"line {number}: {str(error)[:_LONGEST]}", number))
    if wire.method != "POST":
        return _wrong(number, f"expected POST, got {wire.method[:20]!r}", "method", wire.custom_id)
    if wire.url != endpoint:
        return _wrong(number, f"this batch is for {endpoint}, not {wire.url[:60]!r}", "url", wire.custom_id)
    if stream:
        return _wrong(number, "an answer in a file cannot be a stream", "body.stream", wire.custom_id)
    return Line(number, wire.custom_id, body)


def _name(data: bytes) -> str | None:
    try:
        return (_NAMED.decode(data).custom_id or "")[:_LONGEST] or None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _wrong(number: int, why: str, param: str | None, custom_id: str | None) -> Unreadable:
    where = f"line {number}: {param}: " if param else f"line {number}: "
    return Unreadable(number, custom_id, Fault("invalid_request", f"{where}{why[:_LONGEST]}", number, param))


def answered(custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """The line of an answer, right or wrong; ``body`` is JSON."""
    response = _Answered(status, request_id, Raw(body))
    return msgspec.json.encode(_AnswerLine(_id(), custom_id, response, None))


def refused(custom_id: str | None, fault: Fault) -> bytes:
    """The line of a request that was never asked, or whose answer was given up."""
    return msgspec.json.encode(_AnswerLine(_id(), custom_id, None, fault))


def _id() -> str:
    return new_id("batch_req_")
