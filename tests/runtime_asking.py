"""Asks an App without a server: ``asked(app, method, path, body)`` gives the answer with its body read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from lsbuild_runtime.app import App
from lsbuild_runtime.http import Request, Response


class Answer:
    """A response with its body read."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.headers = dict(response.headers)
        self.body = response.body if isinstance(response.body, bytes) else b"".join(response.body)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> Any:
        """The error object; the body has nothing else."""
        body = self.json
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        return body["error"]

    @property
    def events(self) -> list[Any]:
        """The events of a stream, which must end with [DONE]."""
        lines = [line for line in self.body.split(b"\n\n") if line]
        assert lines.pop() == b"data: [DONE]"
        assert all(line.startswith(b"data: ") for line in lines)
        return [msgspec.json.decode(line[6:]) for line in lines]


Ask = Callable[..., Answer]


def asked(
    app: App,
    method: str,
    path: str,
    body: Any = None,
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Ask ``app``; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
    sent = {"content-type": "application/json"} if headers is None else headers
    return Answer(app.handle(Request(method, path, query or {}, sent, data)))
