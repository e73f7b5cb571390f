"""The application: ``App.handle(Request) -> Response``; synchronous, it opens no socket and reads no clock but its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec.structs import replace

from lsbuild_runtime import batches, responses, workflows
from lsbuild_runtime.http import (
    OPENAI_ERRORS,
    ApiError,
    Cancelled,
    Context,
    Errors,
    Request,
    Response,
    Silence,
    Span,
    Watch,
    answered_by,
    attempts,
)
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.manifest import Manifest, check_files
from lsbuild_runtime.routes import ROUTES
from lsbuild_runtime.routing import Kept, Route, Site, Table, found, older, undone
from lsbuild_runtime.services import CheckFiles, Services, boot_files
from lsbuild_runtime.stores import Stores
from lsbuild_runtime.traffic import Traffic

if TYPE_CHECKING:
    from lsbuild_runtime.preparing import Preparing

K = TypeVar("K", bound=Kept)

Observe = Callable[[str], Watch]
"""Makes the Watch of one request from its id; the default watches nothing."""

_SILENT = Silence()
_CLIENT_CLOSED = 499


def _silent(_request_id: str) -> Watch:
    return _SILENT


def _ignore(_line: str) -> None:
    """Nobody is told."""


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
        self.traffic = Traffic()
        self.draining = False
        """Set by an adapter that is shutting down: /v1/ready answers 503 from then on."""
        self.preparing: Preparing | None = None
        """The services that are opened at the start, once ``start`` was called and where there are any."""
        self.tell: Callable[[str], None] = _ignore
        """Takes a short line for a supervisor (systemd's STATUS) when something of the start begins or ends."""
        self.observe = observe
        self.clock = clock
        self._kept: dict[Any, Kept] = {}
        self._making = threading.Lock()
        check(root, boot_files(manifest))

    def handle(self, request: Request) -> Response:
        """Answer ``request``. Never raises: errors are answers, in OpenAI's shape.

        A streamed body must be iterated to its end or closed; its last work and its log line happen there.
        """
        self.traffic.come()
        response = self._answer(request, self._routed)
        if isinstance(response.body, bytes):
            self.traffic.go()
            return response
        return replace(response, body=_Until(response.body, self.traffic.go))

    def background(self, request: Request) -> Response:
        """As ``handle``, for a request that no client waits for: it does not count as traffic."""
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
        watch = context.watch = self.observe(context.request_id)
        span = watch.span("http.server.request", **{"http.request.method": request.method})
        span.__enter__()
        try:
            response = produce(request, span)
        except Exception as error:  # the one place that turns any failure into an answer
            response = self._errors(request).response(failure(error, span), context.request_id)
        span.set(**{"http.response.status_code": response.status})
        headers = {"x-request-id": context.request_id, **trail_headers(context), **response.headers}
        if not isinstance(response.body, bytes):
            body = self._streamed(response.body, request, span)
            return Response(response.status, undone(body) if older(request.path) else body, headers)
        span.__exit__(None, None, None)
        if response.status != 204:  # which has no body, and by RFC 9110 no length either
            headers["content-length"] = str(len(response.body))
        return Response(response.status, b"" if request.method == "HEAD" else response.body, headers)

    def _streamed(self, chunks: Iterable[bytes], request: Request, span: Span) -> Generator[bytes]:
        """Pass ``chunks`` on; an unexpected error becomes the last event, since the status is sent already."""
        try:
            yield from chunks
        except Cancelled:
            span.set(**{"error.type": "cancelled"})
        except Exception as error:
            yield self._errors(request).event(failure(error, span), request.context.request_id)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
            span.__exit__(None, None, None)

    def _errors(self, request: Request) -> Errors:
        """How the API that was asked words its errors."""
        try:
            errors: Errors = found(self.table.find(request.method, request.path)[0].errors)
        except ApiError:
            return OPENAI_ERRORS
        return errors

    def kept(self, kind: Callable[[Site], K]) -> K:
        """See Site."""
        with self._making:
            if kind not in self._kept:
                self._kept[kind] = kind(self)
            found = self._kept[kind]
        return cast("K", found)

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
        """An adapter that serves for a while calls this once: work that an earlier process left goes on.

        Services that have to be seen before a request is are opened in a thread of their own.
        """
        if names := self.manifest.server.prepare:
            from lsbuild_runtime.preparing import Preparing  # only where models run on something else than the CPU

            self.preparing = Preparing(names, self.services, self.observe, self.tell)
            self.preparing.start()
        for name, go_on in (
            ("uploads", lambda _: self.stores.start()),
            ("batches", batches.resume),
            ("responses", responses.resume),
            ("workflows", workflows.resume),
        ):
            try:
                go_on(self)
            except ApiError as error:  # of a state folder that cannot be written: the rest is served
                with self.observe(name).span(f"{name} of an earlier process") as span:
                    span.set(error=error)

    def close(self) -> None:
        """Stop the work in the background; what is not finished goes on with the next start."""
        if self.preparing is not None:
            self.preparing.close()
        for kept in self._kept.values():
            kept.close()
        self.stores.close()


class _Until:
    """``chunks``, and ``end()`` once, when they are over or closed, even if nobody began to read them."""

    def __init__(self, chunks: Iterable[bytes], end: Callable[[], None]) -> None:
        self._chunks = iter(chunks)
        self._end: Callable[[], None] | None = end

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
        end, self._end = self._end, None
        if end is not None:
            end()


def request_id(request: Request) -> str:
    """The caller's ``x-request-id`` if it is printable ASCII of at most 128 characters, else a new one."""
    given = request.context.request_id or request.headers.get("x-request-id", "")
    if given and len(given) <= 128 and given.isascii() and given.isprintable():
        return given
    return new_id("req_")


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


def failure(error: Exception, span: Span) -> ApiError:
    """What ``error`` is to a client; what nobody expected is logged with its traceback and told without it."""
    if isinstance(error, Cancelled):
        return ApiError(_CLIENT_CLOSED, "the request was cancelled", type="cancelled", code="cancelled")
    if isinstance(error, ApiError):
        return error
    span.set(error=error)
    return ApiError(
        500, "internal error; the server's log has it under this request's x-request-id", type="server_error"
    )
