"""JSON-RPC as MCP uses it: messages in and out, and what can go wrong between; it opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from lsbuild_runtime.http import Context

REVISIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""The revisions of the protocol that are spoken, the newest first. All begin with ``initialize``."""
LARGEST = 8 << 20
"""Bytes of one message."""
MOST_ASIDE = 1000
"""Messages that are no answer (notifications, noise) while one is waited for."""


class Gone(Exception):
    """The server is not there any more, or cannot be listened to; what was said to it is lost."""


class Expired(Gone):
    """The session was over before it heard what was said: nothing was done, and it may be said again in another one."""


class Failure(Exception):
    """The server answered that it cannot, or not in time; it is still there."""


class Error(Struct):
    """JSON-RPC's error object."""

    code: int = 0
    message: str = ""


class Message(Struct):
    """Anything that a server says: an answer (``result`` or ``error``), a request, or a notification."""

    id: int | str | None = None
    method: str | None = None
    result: Any = None
    error: Error | None = None


_MESSAGE = msgspec.json.Decoder(Message | list[Message])


class Transport(Protocol):
    """One connection to a server; may be used from several threads."""

    def request(self, number: int, body: bytes, context: Context, seconds: float) -> Any:
        """The result of request ``number``. Gone, Failure; Cancelled and ApiError 408 as ``Context.check``."""
        ...

    def notify(self, body: bytes) -> None:
        """Say something that has no answer; raises nothing."""
        ...

    def spoken(self, revision: str) -> None:
        """The revision that was agreed on."""
        ...

    def alive(self) -> bool:
        """Whether it makes sense to ask."""
        ...

    def close(self) -> None:
        """End it."""
        ...


def request(number: int, method: str, params: Mapping[str, Any]) -> bytes:
    """A request."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def notification(method: str, params: Mapping[str, Any] | None = None) -> bytes:
    """A notification."""
    told = {"jsonrpc": "2.0", "method": method}
    return msgspec.json.encode({**told, "params": params} if params else told)


def reply(message: Message) -> bytes | None:
    """The answer to what a server asks of us: a ping is answered, anything else is not offered; None for no request."""
    if message.method is None or message.id is None:
        return None
    if message.method == "ping":
        return msgspec.json.encode({"jsonrpc": "2.0", "id": message.id, "result": {}})
    fault = {"code": -32601, "message": "this client does not offer that"}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": message.id, "error": fault})


def read(data: bytes) -> list[Message]:
    """The messages in one line or event; none when it is no JSON-RPC."""
    try:
        found = _MESSAGE.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return found if isinstance(found, list) else [found]


def outcome(message: Message) -> Any:
    """The result of an answer; Failure for an error, Gone for what is neither."""
    if message.error is not None:
        raise Failure(f"the server says: {message.error.message[:500] or message.error.code}")
    if message.result is None:
        raise Gone("the server's answer has neither a result nor an error")
    return message.result
