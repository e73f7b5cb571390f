"""What Lambda's HTTP front doors send and take back: events to requests, responses to payloads; pure, it does no I/O.

Five forms: a function URL, API Gateway's HTTP API (format 2.0) and REST API (1.0), and an Application Load Balancer with
single or with multi-value headers.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from lsbuild_runtime.http import ApiError, Context, Request, Response

Door = Literal["function-url", "http-api", "rest-api", "alb", "alb-multi"]
"""Where an event came from, and so what form its answer has."""

LARGEST_ANSWER = 6_291_556
"""Bytes that the service takes as one answer (6 MB and a little, as the emulator counts too)."""
LARGEST_ALB_ANSWER = 1 << 20


class UnknownEvent(Exception):
    """The function was invoked with something that is no HTTP request."""


class _Http(Struct):
    method: str = ""
    path: str = ""


class _RequestContext(Struct, rename="camel"):
    http: _Http | None = None
    elb: dict[str, Any] | None = None
    stage: str = ""
    domain_name: str | None = None


class _Event(Struct, rename="camel"):
    """The fields of all five forms that matter here."""

    request_context: _RequestContext = field(default_factory=_RequestContext)
    version: str = ""
    raw_path: str = ""
    raw_query_string: str = ""
    cookies: list[str] = []
    http_method: str = ""
    path: str = ""
    headers: dict[str, str] | None = None
    multi_value_headers: dict[str, list[str]] | None = None
    query_string_parameters: dict[str, str] | None = None
    multi_value_query_string_parameters: dict[str, list[str]] | None = None
    body: str | None = None
    is_base64_encoded: bool = False


_DECODER = msgspec.json.Decoder(_Event)


class Incoming(Struct, frozen=True):
    """A request, the door it came through, and what is wrong with its body (None when nothing is)."""

    door: Door
    request: Request
    fault: ApiError | None = None


def read(data: bytes, context: Context) -> Incoming:
    """The request in an event. Raises UnknownEvent for anything that is none."""
    try:
        event = _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise UnknownEvent(f"the event is no HTTP request: {error}") from error
    door = _door(event)
    body, fault = _body(event)
    if door in ("function-url", "http-api"):
        return Incoming(door, _version_2(event, body, context), fault)
    return Incoming(door, _version_1(event, door, body, context), fault)


def whole(door: Door, response: Response) -> bytes:
    """The payload of an answer in one piece; a streamed body is read to its end."""
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    text, encoded = _text(body)
    answer: dict[str, Any] = {"statusCode": response.status, "body": text, "isBase64Encoded": encoded}
    if door == "alb-multi":
        answer["multiValueHeaders"] = {name: [value] for name, value in response.headers.items()}
    else:
        answer["headers"] = dict(response.headers)
    if door.startswith("alb"):
        answer["statusDescription"] = str(response.status)
    return msgspec.json.encode(answer)


def limit(door: Door) -> int:
    """The largest payload that this door takes, in bytes."""
    return LARGEST_ALB_ANSWER if door.startswith("alb") else LARGEST_ANSWER


def too_large(size: int, door: Door) -> ApiError:
    """The refusal for an answer of ``size`` bytes."""
    way_out = "ask for less" if door.startswith("alb") else "ask for less, or use the function URL, which streams"
    return ApiError(
        413, f"the answer has {size} bytes, and this way takes {limit(door)}; {way_out}", code="response_too_large"
    )


def prelude(response: Response) -> bytes:
    """The JSON head of a streamed answer. The service counts the bytes itself, so no length is named."""
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return msgspec.json.encode({"statusCode": response.status, "headers": headers})


def pieces(response: Response) -> Iterable[bytes]:
    """The body of a streamed answer."""
    return [response.body] if isinstance(response.body, bytes) else response.body


def _door(event: _Event) -> Door:
    context = event.request_context
    if context.elb is not None:
        return "alb-multi" if event.multi_value_headers is not None else "alb"
    if context.http is not None:
        return "function-url" if ".lambda-url." in (context.domain_name or "") else "http-api"
    if event.http_method:
        return "rest-api"
    raise UnknownEvent(
        "the event is no HTTP request: send events of a function URL, API Gateway (1.0 or 2.0) or a load balancer"
    )


def _version_2(event: _Event, body: bytes, context: Context) -> Request:
    known = event.request_context
    path = event.raw_path
    if known.stage not in ("", "$default") and path.startswith(f"/{known.stage}/"):
        path = path[len(known.stage) + 1 :]  # an HTTP API leaves its stage in the path
    headers = {name.lower(): value for name, value in (event.headers or {}).items()}
    if event.cookies:
        headers["cookie"] = "; ".join(event.cookies)
    query = _query(event.raw_query_string)
    return Request(known.http.method if known.http else "", _decoded(path), query, headers, body, context)


def _version_1(event: _Event, door: Door, body: bytes, context: Context) -> Request:
    many = event.multi_value_headers or {}
    headers = {name.lower(): value for name, value in (event.headers or {}).items()}
    headers |= {name.lower(): ("; " if name.lower() == "cookie" else ", ").join(many[name]) for name in many}
    query = dict(event.query_string_parameters or {})
    query |= {name: values[-1] for name, values in (event.multi_value_query_string_parameters or {}).items() if values}
    if door != "rest-api":  # a load balancer passes on what the client wrote
        query = {_plain(name): _plain(value) for name, value in query.items()}
    return Request(event.http_method, _decoded(event.path), query, headers, body, context)


def _plain(text: str) -> str:
    return _decoded(text.replace("+", " "))


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote  # 10 ms of a cold start that most requests do without

    return unquote(text)


def _query(text: str) -> dict[str, str]:
    if not text:
        return {}
    from urllib.parse import parse_qsl

    return dict(parse_qsl(text, keep_blank_values=True))


def _body(event: _Event) -> tuple[bytes, ApiError | None]:
    if not event.body:
        return b"", None
    if not event.is_base64_encoded:
        return event.body.encode(), None
    try:
        return b64decode(event.body, validate=True), None
    except (Base64Error, ValueError):
        return b"", ApiError(400, "the event says that its body is base64, and it is not", code="invalid_body")


def _text(body: bytes) -> tuple[str, bool]:
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return b64encode(body).decode(), True
