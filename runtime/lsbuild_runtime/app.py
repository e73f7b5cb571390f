"""The application: ``App.handle(Request) -> Response``; synchronous, it opens no socket and reads no clock but its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lsbuild_runtime.http import (
    ApiError,
    Cancelled,
    Context,
    Request,
    Response,
    Silence,
    Span,
    Watch,
    answered_by,
    attempts,
)
from lsbuild_runtime.manifest import Manifest, check_files
from lsbuild_runtime.routes import ROUTES
from lsbuild_runtime.routing import Route, Table
from lsbuild_runtime.services import CheckFiles, Services, boot_files
from lsbuild_runtime.stores import Stores

Observe = Callable[[str], Watch]
"""Makes the Watch of one request from its id; the default watches nothing."""

_SILENT = Silence()
_CLIENT_CLOSED = 499


def _silent(_request_id: str) -> Watch:
    return _SILENT


class App:
    """Answers every request for one bundle.

    The files of the bundle that do not belong to a service are checked here (ManifestError); a service's own files
    are checked when it is opened, which is on its first request. No network is used. ``state`` is the folder for what
    has to outlive the process (uploads, mutable stores); None: the application writes nothing. ``clock`` is the time
    of day of what is kept there, ``check`` how files are compared with the manifest.
    """

    def __init__(
        self,
        manifest: Manifest,
        root: Path,
        observe: Observe = _silent,
        state: Path | None = None,
        clock: Callable[[], float] = time.time,
        check: CheckFiles = check_files,
    ) -> None:
        self.manifest = manifest
        self.root = root
        self.services = Services(manifest, root, state, check)
        self.stores = Stores(self.services, root, observe, clock)
        self.table = Table(ROUTES)
        self.started = int(clock())
        self.draining = False
        """Set by an adapter that is shutting down: /v1/ready answers 503 from then on."""
        self._observe = observe
        check(root, boot_files(manifest))

    def handle(self, request: Request) -> Response:
        """Answer ``request``. Never raises: errors are answers, in OpenAI's shape.

        A streamed body must be iterated to its end or closed; its last work and its log line happen there.
        """
        return self._answer(request, self._routed)

    def refuse(self, request: Request, error: ApiError) -> Response:
        """Answer ``error`` to a request that an adapter cannot take (queue full, body too large), and log it."""

        def refusing(_request: Request, _span: Span) -> Response:
            raise error

        return self._answer(request, refusing)

    def _routed(self, request: Request, span: Span) -> Response:
        route, arguments = self.table.find(request.method, request.path)
        span.set(**{"http.route": route.path})
        refuse_unknown_query(route, request)
        return route.answer(self, request, arguments)

    def _answer(self, request: Request, produce: Callable[[Request, Span], Response]) -> Response:
        context = request.context
        context.request_id = request_id(request)
        watch = context.watch = self._observe(context.request_id)
        span = watch.span("http.server.request", **{"http.request.method": request.method})
        span.__enter__()
        try:
            response = produce(request, span)
        except Exception as error:  # the one place that turns any failure into an answer
            response = failure(error, span)
        span.set(**{"http.response.status_code": response.status})
        headers = {"x-request-id": context.request_id, **trail_headers(context), **response.headers}
        if not isinstance(response.body, bytes):
            return Response(response.status, stream(response.body, span), headers)
        span.__exit__(None, None, None)
        if response.status != 204:  # which has no body, and by RFC 9110 no length either
            headers["content-length"] = str(len(response.body))
        return Response(response.status, b"" if request.method == "HEAD" else response.body, headers)

    def instant(self, method: str, path: str) -> bool:
        """Whether the answer comes from memory, so that an adapter may ask for it outside its queue."""
        try:
            return self.table.find(method, path)[0].instant
        except ApiError:
            return True

    def large(self, method: str, path: str) -> bool:
        """Whether the body may be as large as ``server.upload`` says."""
        try:
            return self.table.find(method, path)[0].large
        except ApiError:
            return False

    def start(self) -> None:
        """An adapter that serves for a while calls this once: work that an earlier process left goes on."""
        self.stores.start()

    def close(self) -> None:
        """Stop the work in the background; what is not finished goes on with the next start."""
        self.stores.close()


def request_id(request: Request) -> str:
    """The caller's ``x-request-id`` if it is printable ASCII of at most 128 characters, else a new one."""
    given = request.context.request_id or request.headers.get("x-request-id", "")
    if given and len(given) <= 128 and given.isascii() and given.isprintable():
        return given
    return "req_" + os.urandom(12).hex()


def trail_headers(context: Context) -> dict[str, str]:
    """Which models a route asked and which of them answers; nothing where no route was asked."""
    if not context.trail:
        return {}
    headers = {"x-lsbuild-attempts": attempts(context.trail)}
    if model := answered_by(context.trail):
        headers["x-lsbuild-model"] = model
    return headers


def refuse_unknown_query(route: Route, request: Request) -> None:
    """ApiError 400 for a query parameter that the route does not honour."""
    for name in request.query:
        if name not in route.query:
            raise ApiError(400, f"unknown query parameter {name[:100]!r}", param=name[:100], code="unknown_parameter")


def failure(error: Exception, span: Span) -> Response:
    """The answer for ``error``; what nobody expected is logged with its traceback and answered without it."""
    if isinstance(error, Cancelled):
        error = ApiError(_CLIENT_CLOSED, "the request was cancelled", type="cancelled", code="cancelled")
    if not isinstance(error, ApiError):
        span.set(error=error)
        error = ApiError(
            500, "internal error; the server's log has it under this request's x-request-id", type="server_error"
        )
    headers = {"content-type": "application/json"}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return Response(error.status, error.body(), headers)


def stream(chunks: Iterable[bytes], span: Span) -> Iterator[bytes]:
    """Pass ``chunks`` on; an unexpected error becomes an error event, since the status is sent already."""
    try:
        yield from chunks
    except Cancelled:
        span.set(**{"error.type": "cancelled"})
    except Exception as error:
        body = failure(error, span).body
        yield b"data: " + (body if isinstance(body, bytes) else b"") + b"\n\ndata: [DONE]\n\n"
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
        span.__exit__(None, None, None)
