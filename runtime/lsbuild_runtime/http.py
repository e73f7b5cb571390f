"""Request and Response, the one contract between adapters (ASGI, Lambda) and routes; it does no I/O."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct, field

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
"""The end of a stream of OpenAI's."""


class ApiError(Exception):
    """An answer with a 4xx or 503 status in OpenAI's error shape.

    ``type`` and ``code`` follow OpenAI (``invalid_request_error``, ``model_not_found`` ...); ``param`` names the field.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 - the name of the field on the wire
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def body(self) -> bytes:
        """The JSON body ``{"error": {message, type, param, code}}``."""
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}
        )


class Cancelled(Exception):
    """The client went away or the server is stopping; engines raise it between two tokens."""


class Watch(Protocol):
    """The one observability hook. Spans nest by ``with``; names follow the OpenTelemetry GenAI conventions."""

    def span(self, name: str, **attributes: Any) -> Span:
        """Open a span, to be used as a context manager."""
        ...

    def count(self, name: str, value: float, **attributes: Any) -> None:
        """Add ``value`` to a counter or record it in a histogram, as the name's table says."""
        ...


class Span(Protocol):
    """A running span."""

    def __enter__(self) -> Span: ...
    def __exit__(self, *exc: object) -> None: ...
    def set(self, **attributes: Any) -> None:
        """Add attributes known only now (token counts, finish reasons)."""
        ...


class Silence:
    """A Watch and a Span that do nothing: the default."""

    def span(self, name: str, **attributes: Any) -> Span:  # noqa: ARG002
        """Return itself."""
        return self

    def count(self, name: str, value: float, **attributes: Any) -> None:
        """Do nothing."""

    def set(self, **attributes: Any) -> None:
        """Do nothing."""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class Attempt(Struct):
    """One model that was asked in the name of a request, and how that ended.

    ``outcome`` is "" while it is under way, then "ok" (it answers), "cancelled", or the failure.
    """

    model: str
    outcome: str = ""
    ms: float = 0.0


class Context(Struct):
    """What travels with one request through every port: its deadline, its cancel flag and its observer.

    ``affinity`` is what the requests of one conversation share, "" when nothing is known of that: who keeps something
    warm for a conversation goes by it. ``trail`` grows with each model that a route asks; copies of a context share it.
    ``tainted`` says that this is done for a run that has read text which nobody vouches for (see runs.Policy).
    """

    request_id: str = ""
    deadline: float = field(default_factory=lambda: time.monotonic() + 120.0)
    cancel: threading.Event = field(default_factory=threading.Event)
    watch: Watch = field(default_factory=Silence)
    affinity: str = ""
    trail: list[Attempt] = field(default_factory=list)
    tainted: bool = False

    def check(self) -> None:
        """Raise Cancelled or a 408 ApiError when this request need not go on; cheap enough for every token."""
        if self.cancel.is_set():
            raise Cancelled
        if time.monotonic() > self.deadline:
            raise ApiError(408, "the request ran past its deadline", type="timeout_error", code="deadline_exceeded")


def answered_by(trail: Iterable[Attempt]) -> str:
    """The model that answers: the innermost one, which was asked last; "" while there is none."""
    return next((attempt.model for attempt in reversed(list(trail)) if attempt.outcome == "ok"), "")


def attempts(trail: Iterable[Attempt]) -> str:
    """All attempts in the order they began: ``edge=timeout, cloud=ok``."""
    return ", ".join(f"{attempt.model}={attempt.outcome or 'running'}" for attempt in list(trail))


class Request(Struct, frozen=True):
    """One HTTP request. ``path`` is decoded and has no query; header names are lower case; ``body`` is complete."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    context: Context = field(default_factory=Context)


class Response(Struct, frozen=True):
    """One HTTP response. ``body`` is bytes, or an iterable of chunks to be sent as they come."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


def json_response(value: Any, status: int = 200) -> Response:
    """Encode a Struct or a plain value."""
    return Response(status, msgspec.json.encode(value))


class Errors:
    """How an API's errors look: OpenAI's, which all routes have that name no other."""

    shape: Any = None
    """The Struct of the body, for OpenAPI; None: OpenAI's."""

    def response(self, error: ApiError, request_id: str) -> Response:
        """The whole answer."""
        headers = {"content-type": "application/json", **self.headers(request_id)}
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        return Response(error.status, self.body(error, request_id), headers)

    def event(self, error: ApiError, request_id: str) -> bytes:
        """The last event of a stream that fails after it has begun."""
        return b"data: " + self.body(error, request_id) + b"\n\n" + DONE

    def body(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 - other APIs repeat the id in the body
        """The JSON body."""
        return error.body()

    def headers(self, request_id: str) -> dict[str, str]:  # noqa: ARG002 - other APIs have a header of their own for it
        """Headers beside those of every answer."""
        return {}


OPENAI_ERRORS = Errors()


def sse_response(events: Iterator[Any]) -> Response:
    """Server-sent events as OpenAI sends chats: ``data: {json}`` lines and a final ``data: [DONE]``; see ``streamed``."""
    return streamed(events, _data, OPENAI_ERRORS, end=DONE)


def _data(event: Any) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def streamed(
    events: Iterator[T], frame: Callable[[T], bytes], errors: Errors, request_id: str = "", end: bytes = b""
) -> Response:
    """A stream of server-sent events, each as ``frame`` writes it, closed by ``end``.

    The first event is produced before the headers are, so that an error found by then keeps its own status; a later
    one becomes the last event, since a status cannot be taken back.
    """
    headers = {"content-type": "text/event-stream", "cache-control": "no-store", **errors.headers(request_id)}
    try:
        first = next(events)
    except StopIteration:
        return Response(200, iter([end]), headers)

    def chunks() -> Iterator[bytes]:
        try:
            yield frame(first)
            for event in events:
                yield frame(event)
        except ApiError as error:
            yield errors.event(error, request_id)
            return
        finally:
            close = getattr(events, "close", None)
            if close is not None:  # a client that went away closes this generator: the engine must stop too
                close()
        if end:
            yield end

    return Response(200, chunks(), headers)
