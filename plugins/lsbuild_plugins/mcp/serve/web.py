"""An MCP server at a URL (streamable HTTP): each message is a POST, answered by JSON or by a stream of events.

A session that the server opens is kept by its id; streams are not resumed, and redirects are not followed. The host is
the spec's: it may be anywhere.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from lsbuild_plugins.mcp.serve.messages import (
    LARGEST,
    MOST_ASIDE,
    Expired,
    Failure,
    Gone,
    Message,
    notification,
    outcome,
    read,
    reply,
)
from lsbuild_runtime.http import Context

_CONNECT_S = 5.0
_NOTIFY_S = 5.0


class Web:
    """Implements messages.Transport. Gone when ``url`` is no http or https URL."""

    def __init__(self, url: str, headers: Mapping[str, str], token: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Gone("the server's url is no URL") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise Gone("the server's url is no http or https URL")
        self._scheme, self._host = parts.scheme, parts.hostname
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "User-Agent": "lsbuild",
            **headers,
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }

    def request(self, number: int, body: bytes, context: Context, seconds: float) -> Any:
        """See messages.Transport."""
        end = time.monotonic() + seconds
        try:
            return outcome(self._asked(number, body, context, end))
        except Failure:
            raise
        except BaseException as error:
            late = time.monotonic() > end
            if not isinstance(error, Expired):
                self.notify(notification("notifications/cancelled", {"requestId": number, "reason": "given up"}))
            context.check()
            if late and isinstance(error, Gone):
                raise Failure(f"there was no answer within {seconds:g} s") from error
            raise

    def notify(self, body: bytes) -> None:
        """See messages.Transport."""
        context = Context(deadline=time.monotonic() + _NOTIFY_S)
        with suppress(Gone, Failure, OSError):
            for _ in self._posted(body, context, time.monotonic() + _NOTIFY_S, answered=False):
                break

    def spoken(self, revision: str) -> None:
        """See messages.Transport."""
        self._headers["MCP-Protocol-Version"] = revision

    def alive(self) -> bool:
        """See messages.Transport."""
        return True

    def close(self) -> None:
        """Nothing is kept open."""

    def _asked(self, number: int, body: bytes, context: Context, end: float) -> Message:
        aside = 0
        for data in self._posted(body, context, end, answered=True):
            for message in read(data):
                if message.method is None and message.id == number:
                    return message
                aside += 1
                if (answer := reply(message)) is not None:
                    self.notify(answer)
            if aside > MOST_ASIDE:
                raise Gone(f"the server sent {MOST_ASIDE} messages that nobody asked for")
        raise Gone("the server's answer is not in what it sent")

    def _posted(self, body: bytes, context: Context, end: float, *, answered: bool) -> Iterator[bytes]:
        """The JSON texts in the answer to a POST."""
        import urllib3

        from lsbuild_runtime.outgoing import Cutoff, over

        connected = self._connected(context, end)
        connection = over(connected, self._scheme, self._host, self._port)
        try:
            with Cutoff(connected, context, end) as ended:
                try:
                    connection.request("POST", self._target, body=body, headers=self._headers, preload_content=False)
                    response = connection.getresponse()
                    self._look_at(response.status)
                    if session := response.headers.get("mcp-session-id"):
                        self._headers["Mcp-Session-Id"] = session
                    if not answered:
                        return
                    kind = (response.headers.get("content-type") or "").partition(";")[0].strip().lower()
                    if kind == "text/event-stream":
                        yield from _events(_pieces(response))
                    else:
                        yield b"".join(_pieces(response))
                    if ended.cut:  # what was cut can look complete
                        raise OSError
                except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
                    raise Gone(f"the server broke off ({type(error).__name__})") from error
        finally:
            connection.close()
            with suppress(OSError):
                connected.close()

    def _connected(self, context: Context, end: float) -> socket.socket:
        left = min(_CONNECT_S, end - time.monotonic(), context.deadline - time.monotonic())
        try:
            connected = socket.create_connection((self._host, self._port), max(0.05, left))
        except OSError as error:
            raise Gone(f"the server cannot be reached ({error.strerror or type(error).__name__})") from error
        connected.settimeout(max(0.1, min(end, context.deadline) - time.monotonic()))
        return connected

    def _look_at(self, status: int) -> None:
        if status == 404 and "Mcp-Session-Id" in self._headers:
            del self._headers["Mcp-Session-Id"]
            raise Expired("the server has ended the session")
        if status in (401, 403):
            raise Failure(f"the server wants another token (it answered {status})")
        if not 200 <= status < 300:
            raise Failure(f"the server answered {status}")


def _pieces(response: Any) -> Iterator[bytes]:
    """The body as it comes; Gone when it is too large."""
    size = 0
    while piece := response.read1(1 << 16):
        size += len(piece)
        if size > LARGEST:
            raise Gone(f"the server sent more than {LARGEST} bytes")
        yield piece


def _events(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The data of server-sent events: its lines joined, at each empty line."""
    rest = bytearray()
    data: list[bytes] = []
    for piece in pieces:
        rest += piece
        if b"\n" not in piece:
            continue
        *lines, rest = rest.split(b"\n")
        for ended in lines:
            line = bytes(ended).removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
    if data:
        yield b"\n".join(data)
