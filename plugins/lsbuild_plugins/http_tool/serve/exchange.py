"""One HTTP exchange with redirects, at addresses that were checked, within bounds of time and size."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import urllib3
from msgspec import Struct

from lsbuild_plugins.http_tool.serve import weburl
from lsbuild_plugins.http_tool.serve.guard import Guard, Refused
from lsbuild_plugins.http_tool.serve.weburl import Url, UrlError
from lsbuild_runtime.http import Context
from lsbuild_runtime.outgoing import Cutoff, over

REDIRECTS = 5
CONNECT_S = 5.0
Dial = Callable[[str, int, float], socket.socket]
"""``(address, port, seconds) -> connected socket``; raises OSError."""


class Question(Struct, frozen=True):
    """What is asked. ``secret`` headers (lower case) do not follow a redirect to another host."""

    url: Url
    method: str
    headers: Mapping[str, str]
    body: bytes | None = None
    secret: frozenset[str] = frozenset()


class Answer(Struct, frozen=True):
    """A complete answer; ``type`` is the media type without parameters, ``charset`` what it names or utf-8."""

    status: int
    type: str
    charset: str
    body: bytes


def dial(address: str, port: int, seconds: float) -> socket.socket:
    """A TCP connection to a numeric address."""
    return socket.create_connection((address, port), seconds)


def exchange(
    question: Question, guard: Guard, context: Context, seconds: float, most: int, dialled: Dial = dial
) -> Answer:
    """The answer after at most REDIRECTS redirects. Refused says why there is none; Cancelled and 408 as Context.check."""
    end = time.monotonic() + seconds
    for _ in range(REDIRECTS + 1):
        addresses = guard.addresses(question.url, context, end)
        answer, location = _once(question, addresses, context, end, most, dialled)
        if location is None:
            return answer
        question = _followed(question, answer.status, location)
    raise Refused(f"the server redirected more than {REDIRECTS} times")


def _followed(question: Question, status: int, location: str) -> Question:
    try:
        url = weburl.joined(question.url, location)
    except UrlError as error:
        raise Refused(f"the server redirects to a place that is not taken: {error}") from error
    if question.url.scheme == "https" and url.scheme == "http":
        raise Refused("the server redirects from https to http")
    headers = dict(question.headers)
    if url.origin != question.url.origin:
        headers = {name: value for name, value in headers.items() if name.lower() not in question.secret}
    if status in (307, 308) or question.method == "GET":
        return Question(url, question.method, headers, question.body, question.secret)
    headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    return Question(url, "GET", headers, None, question.secret)


def _once(
    question: Question, addresses: list[str], context: Context, end: float, most: int, dialled: Dial
) -> tuple[Answer, str | None]:
    """One request at the first address that answers a connection; the answer, and where it redirects to."""
    connected = _connected(question.url, addresses, context, end, dialled)
    connected.settimeout(max(0.1, min(end, context.deadline) - time.monotonic()))
    connection = over(connected, question.url.scheme, question.url.host, question.url.port)
    with Cutoff(connected, context, end) as ended:
        try:
            # A port of which nobody speaks TLS, a certificate of another name, a server that hangs: all end here.
            connection.request(
                question.method,
                question.url.target,
                body=question.body,
                headers={"Host": question.url.authority, "User-Agent": "lsbuild", **question.headers},
                preload_content=False,
                decode_content=True,
            )
            response = connection.getresponse()
            location = response.headers.get("location") if response.status in (301, 302, 303, 307, 308) else None
            answer = Answer(response.status, "", "", b"") if location is not None else _read(response, most)
            if ended.cut:  # what was cut can look complete
                raise OSError
            return answer, location
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            context.check()
            if ended.cut:
                raise Refused(f"{question.url.host} took too long") from error
            raise Refused(f"{question.url.host} could not be asked: {_reason(error)}") from error
        finally:
            connection.close()
            with suppress(OSError):
                connected.close()


def _read(response: Any, most: int) -> Answer:
    kind, _, rest = (response.headers.get("content-type") or "").partition(";")
    charset = rest.partition("charset=")[2].partition(";")[0].strip(" \"'") or "utf-8"
    body = b""
    while piece := response.read(min(1 << 16, most + 1 - len(body))):
        body += piece
        if len(body) > most:
            raise Refused(f"the answer has more than {most} bytes")
    return Answer(response.status, kind.strip().lower(), charset, body)


def _connected(url: Url, addresses: list[str], context: Context, end: float, dialled: Dial) -> socket.socket:
    for address in addresses:
        context.check()
        left = min(CONNECT_S, end - time.monotonic(), context.deadline - time.monotonic())
        if left <= 0:
            break
        try:
            return dialled(address, url.port, left)
        except OSError:
            continue
    raise Refused(f"{url.host} could not be connected to")


def _reason(error: Exception) -> str:
    """What went wrong, without an address."""
    import ssl

    from urllib3.util.ssl_match_hostname import CertificateError

    while isinstance(error, urllib3.exceptions.HTTPError) and error.args and isinstance(error.args[-1], Exception):
        error = error.args[-1]
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, CertificateError):
        return "its certificate is not valid (it is for another name)"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS as it should"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it broke off or does not speak HTTP"
