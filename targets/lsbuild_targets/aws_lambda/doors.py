"""HTTP requests as the events that Lambda's front doors make of them, and payloads back to HTTP answers; it does no I/O.

What a proof of an artifact needs: the runtime's own half of this is ``lsbuild_runtime.serve.aws_lambda.events``.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PRELUDE_END = b"\0" * 8
"""Stands between the JSON head of a streamed answer and its body."""
_URL_DOMAIN = "verify.lambda-url.local.on.aws"
_API_DOMAIN = "verify.execute-api.local.amazonaws.com"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, or the beginning of one whose body is still to come."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


class FunctionFailed(Exception):
    """The payload is an error of the function: ``{"errorType", "errorMessage"}``, or no HTTP answer at all."""


def event(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes, *, streams: bool) -> bytes:
    """An event of format 2.0: of a function URL when the answer is to be streamed, else of an HTTP API."""
    url = urlsplit(target)
    domain = _URL_DOMAIN if streams else _API_DOMAIN
    joined: dict[str, str] = {}
    for name, text in headers:
        key = name.lower()
        joined[key] = f"{joined[key]},{text}" if key in joined else text
    value: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": url.path,
        "rawQueryString": url.query,
        "headers": {**joined, "host": domain},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "verify",
            "domainName": domain,
            "http": {"method": method, "path": url.path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "requestId": "verify",
            "stage": "$default",
        },
        "isBase64Encoded": bool(body),
    }
    if body:
        value["body"] = b64encode(body).decode()
    return json.dumps(value).encode()


def answer(payload: bytes) -> Answer:
    """The HTTP answer in a whole payload, streamed or not. Raises FunctionFailed."""
    head, end, rest = payload.partition(PRELUDE_END)
    if end:
        begun = beginning(head)
        return Answer(begun.status, begun.headers, rest)
    try:
        value = json.loads(payload)
    except ValueError:
        raise FunctionFailed(f"the payload is no JSON: {payload[:200]!r}") from None
    if not isinstance(value, dict) or "statusCode" not in value:
        raise FunctionFailed(_said(value))
    body = value.get("body") or ""
    data = b64decode(body) if value.get("isBase64Encoded") else body.encode()
    return Answer(value["statusCode"], _headers(value), data)


def beginning(prelude: bytes) -> Answer:
    """Status and headers of a streamed answer. Raises FunctionFailed when the prelude is none."""
    try:
        value = json.loads(prelude)
        return Answer(int(value["statusCode"]), _headers(value))
    except (ValueError, KeyError, TypeError):
        raise FunctionFailed(f"the prelude is no JSON with a statusCode: {prelude[:200]!r}") from None


def _headers(value: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    many = {name: tuple(values) for name, values in (value.get("multiValueHeaders") or {}).items()}
    many |= {name: (text,) for name, text in (value.get("headers") or {}).items()}
    listed = [(name, str(text)) for name, texts in many.items() for text in texts]
    return (*listed, *(("set-cookie", cookie) for cookie in value.get("cookies") or ()))


def _said(value: Any) -> str:
    if isinstance(value, dict) and "errorMessage" in value:
        return f"{value.get('errorType', 'error')}: {value['errorMessage']}"
    return f"the payload is no HTTP answer: {str(value)[:200]}"
