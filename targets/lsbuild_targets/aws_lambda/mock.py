"""A Lambda service of our own on loopback: the Runtime API for one function, and its front door, which relays streams.

AWS's emulator keeps a streamed answer back until it is whole, so only this shows that tokens leave as they come. It
holds no limit of time, memory or size: that is the emulator's part.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lsbuild_targets.aws_lambda.doors import Answer, FunctionFailed
from lsbuild_targets.aws_lambda.front import Quiet, front, serving

_NEXT = "/2018-06-01/runtime/invocation/next"
_RESTORE = "/2018-06-01/runtime/restore/next"


@dataclass
class _Pending:
    event: bytes
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    parts: queue.SimpleQueue[bytes | FunctionFailed | None] = field(default_factory=queue.SimpleQueue)


class Mock:
    """The Runtime API of one function. ``address`` is known inside ``serve``; ``seconds`` is the function's timeout."""

    def __init__(self, seconds: float = 120.0) -> None:
        self.address = ""
        self.failures: list[str] = []
        """What the function told of itself: ``init/error``, ``ID/error`` and trailers, as texts."""
        self.modes: list[str] = []
        """The response mode of each answer: "streaming" or ""."""
        self.restored = threading.Event()
        """Set when the function may go on from its snapshot; while it is not, ``restore/next`` waits."""
        self.held = threading.Event()
        """Set by the mock when the function waits in ``restore/next``."""
        self.ready = threading.Event()
        """Set when the function asks for its first event."""
        self._seconds = seconds
        self._waiting: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._pending: dict[str, _Pending] = {}
        self._ended = False

    @contextmanager
    def serve(self) -> Iterator[Mock]:
        """Open the Runtime API."""
        with serving(type("Handler", (_RuntimeApi,), {"mock": self})) as self.address:
            try:
                yield self
            finally:
                self.end()

    def end(self) -> None:
        """Tell the function, when it asks for an event, that there will be none."""
        self._ended = True
        self.restored.set()
        self._waiting.put(None)

    @contextmanager
    def url(self, *, streams: bool = True) -> Iterator[str]:
        """Open a front door: a function URL, or an HTTP API."""
        with front(self.invoke, streams=streams) as address:
            yield address

    def invoke(self, event: bytes) -> Iterator[bytes]:
        """Hand an event to the function; its payload, piece by piece. Raises FunctionFailed."""
        pending = _Pending(event)
        self._pending[pending.id] = pending
        self._waiting.put(pending)
        limit = time.monotonic() + self._seconds
        while True:
            try:
                part = pending.parts.get(timeout=max(0.0, limit - time.monotonic()))
            except queue.Empty:
                raise FunctionFailed(f"the function did not answer within {self._seconds:.0f} s") from None
            if part is None:
                return
            if isinstance(part, FunctionFailed):
                raise part
            yield part

    def take(self) -> _Pending | None:
        """The next event for the function; None when the service ends."""
        self.ready.set()
        return None if self._ended else self._waiting.get()

    def find(self, name: str) -> _Pending | None:
        """The event of that id that waits for its answer."""
        return self._pending.get(name)

    def deadline_ms(self) -> int:
        """When an event that is given now has to be answered, in milliseconds since 1970."""
        return int((time.time() + self._seconds) * 1000)


class _RuntimeApi(Quiet):
    mock: Mock

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        if self.path == _RESTORE:
            self.mock.held.set()
            self.mock.restored.wait()
            self.reply(Answer(200, ()))
            return
        pending = self.mock.take() if self.path == _NEXT else None
        if pending is None:
            self.reply(Answer(403, (), b'{"errorType": "Ended"}'))
            return
        headers = (
            ("content-type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", pending.id),
            ("Lambda-Runtime-Deadline-Ms", str(self.mock.deadline_ms())),
            ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:local:0:function:verify"),
            ("Lambda-Runtime-Trace-Id", "Root=1-0-0;Sampled=0"),
        )
        self.reply(Answer(200, headers, pending.event))

    def do_POST(self) -> None:  # noqa: N802
        *_, scope, name, what = self.path.split("/")
        pending = self.mock.find(name) if scope == "invocation" else None
        if pending is None or what == "error":
            self._failed(f"{name}/{what}", self.body().decode("utf-8", "replace"), pending)
        elif self.headers.get("transfer-encoding") == "chunked":
            self.mock.modes.append(self.headers.get("Lambda-Runtime-Function-Response-Mode", ""))
            self._pass_on(pending)
        else:
            self.mock.modes.append("")
            pending.parts.put(self.body())
            pending.parts.put(None)
        self.reply(Answer(202, (), b'{"status":"OK"}'))

    def _failed(self, where: str, text: str, pending: _Pending | None) -> None:
        self.mock.failures.append(f"{where} {text}")
        if pending is not None:
            value = json.loads(text)
            pending.parts.put(FunctionFailed(f"{value['errorType']}: {value['errorMessage']}"))

    def _pass_on(self, pending: _Pending) -> None:
        """Each chunk as it comes, then what the trailers say."""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pending.parts.put(self.rfile.read(size))
            self.rfile.readline()
        trailers = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            trailers[name.lower()] = value.strip()
        if kind := trailers.get("lambda-runtime-function-error-type"):
            told = b64decode(trailers.get("lambda-runtime-function-error-body", "")).decode()
            self.mock.failures.append(f"trailer {kind} {told}")
            pending.parts.put(FunctionFailed(f"{kind}: {told}"))
        pending.parts.put(None)
