"""ASGI 3 adapter: receives bodies within their limit, queues requests for a few worker threads, streams answers back."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Context, Request, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WINDOW = 32
"""Chunks of one stream that may wait to be sent; the engine pauses when the client reads more slowly."""
_WATCH_AFTER = 0.02
"""Seconds after which the adapter begins to look whether the client is still there; most answers are out by then."""
_RECEIVE_SECONDS = 30.0
_SEND_GRACE = 5.0


class ClientGone(Exception):
    """The connection was closed before the request was complete."""


class Asgi:
    """The ASGI application for one App: ``server.concurrency`` workers, ``server.queue`` requests waiting."""

    def __init__(self, app: App) -> None:
        self._app = app
        server = app.manifest.server
        self._limits = (server.body, server.upload)
        self._deadline = server.deadline_s
        self._room = server.concurrency + server.queue
        self._inside = 0
        self._coming = 0
        self._uploads = asyncio.Semaphore(server.concurrency)
        """All of an upload is held in memory: so many are received at a time, the others wait to send theirs."""
        self._workers = Workers(server.concurrency)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event stream of ASGI: lifespan or http."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._workers.start()
        self._app.start()
        await send({"type": "lifespan.startup.complete"})
        with contextlib.suppress(asyncio.CancelledError):  # a forced exit does not wait for this task
            await receive()
            self._app.draining = True
            self._workers.stop()
            await asyncio.to_thread(self._app.close)
            await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        usual, large = self._limits
        if not self._app.large(scope["method"], scope["path"]):
            await self._request(scope, receive, send, usual, _RECEIVE_SECONDS)
        elif self._coming >= self._room:
            await self._refuse(scope, send, _full(self._room, "uploads"))
        else:
            self._coming += 1
            try:
                async with self._uploads:
                    await self._request(scope, receive, send, large, max(_RECEIVE_SECONDS, self._deadline))
            finally:
                self._coming -= 1

    async def _request(self, scope: Scope, receive: Receive, send: Send, limit: int, seconds: float) -> None:
        context = Context(deadline=time.monotonic() + self._deadline)
        headers = _headers(scope)
        try:
            body = await receive_body(receive, headers, limit, seconds)
        except ClientGone:
            return
        except ApiError as error:
            await self._refuse(scope, send, error)
            return
        request = Request(scope["method"], scope["path"], _query(scope), headers, body, context)
        if self._app.instant(request.method, request.path):
            await send_whole(send, self._app.handle(request))
        elif self._inside >= self._room:
            await send_whole(send, self._app.refuse(request, _full(self._room, "requests")))
        else:
            await self._work(request, receive, send)

    async def _refuse(self, scope: Scope, send: Send, error: ApiError) -> None:
        """Answer a request whose body is not read to its end: the connection cannot be used again."""
        request = Request(scope["method"], scope["path"], _query(scope), _headers(scope), b"", Context())
        await send_whole(send, self._app.refuse(request, error), {"connection": "close"})

    async def _work(self, request: Request, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        job = Job(self._app, request, loop, self._left)
        self._inside += 1
        self._workers.put(job)
        watcher = Watcher(receive, job, loop)
        try:
            async with asyncio.timeout_at(request.context.deadline + _SEND_GRACE):
                await job.relay(send)
        except TimeoutError:
            pass  # the client does not read, or the engine hangs: the connection is closed, the flag is set below
        finally:
            watcher.stop()
            job.abandon()

    def _left(self) -> None:
        self._inside -= 1


class Job:
    """One request on a worker thread, and the way of its answer back to the event loop.

    What the worker has to say is put in line and the loop is woken once for all that waits there: waking it costs a
    system call, and a burst of events shall not cost one each.
    """

    def __init__(self, app: App, request: Request, loop: asyncio.AbstractEventLoop, left: Callable[[], None]) -> None:
        self._app = app
        self._request = request
        self._loop = loop
        self._left = left
        self._line: deque[Response | bytes | None] = deque()
        self._woken = False
        self._ended = False
        self._waiting: asyncio.Future[None] | None = None
        self._window = threading.Semaphore(WINDOW)

    def run(self) -> None:
        """On the worker: handle the request and pass on what it yields; None marks the end."""
        try:
            if not self._request.context.cancel.is_set():
                self._produce(self._app.handle(self._request))
        finally:
            self._post(None)

    def _produce(self, response: Response) -> None:
        self._line.append(response)
        if isinstance(response.body, bytes):
            return  # the end follows at once and wakes the loop for both
        context = self._request.context
        chunks = iter(response.body)
        try:
            for chunk in chunks:
                self._window.acquire()
                if context.cancel.is_set():
                    return
                self._post(chunk)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def _post(self, part: bytes | None) -> None:
        self._line.append(part)
        if part is None or not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._wake, part is None)

    def _wake(self, ended: bool) -> None:
        self._woken = False
        if ended:
            self._ended = True
            self._left()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _next(self) -> Response | bytes | None:
        while not self._line:
            self._waiting = self._loop.create_future()
            await self._waiting
        return self._line.popleft()

    async def relay(self, send: Send) -> None:
        """On the event loop: send what the worker says, several waiting chunks at once."""
        response = await self._next()
        if not isinstance(response, Response):
            return  # cancelled before a worker took it
        if isinstance(response.body, bytes):
            await send_whole(send, response)
            return
        await send(_start(response.status, response.headers))
        more = True
        while more:
            parts = [await self._next()]
            while self._line:
                parts.append(self._line.popleft())
            more = parts[-1] is not None
            data = b"".join(part for part in parts if isinstance(part, bytes))
            await send({"type": "http.response.body", "body": data, "more_body": more})
            self._window.release(len(parts))

    def abandon(self) -> None:
        """Nobody reads any more: the worker stops at its next chunk and never waits for room."""
        if not self._ended:
            self._request.context.cancel.set()
            self._window.release(WINDOW)


class Watcher:
    """Sets a job's cancel flag when the client goes away."""

    def __init__(self, receive: Receive, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._job = job
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_WATCH_AFTER, self._begin)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._job.abandon()

    def stop(self) -> None:
        """Stop looking."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


class Workers:
    """A fixed number of threads that run jobs in the order they came."""

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"worker-{i}", daemon=True) for i in range(count)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def put(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End the threads after the jobs that are queued; waits at most a moment, for the threads are daemons."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(0.5)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()


async def receive_body(receive: Receive, headers: Mapping[str, str], limit: int, seconds: float) -> bytes:
    """The whole body; ApiError 413 as soon as it is known to be longer than ``limit``, 408 when it comes too slowly."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    if not message.get("more_body"):
        return _joined([message.get("body", b"")], limit)
    chunks = [message.get("body", b"")]
    size = len(chunks[0])
    try:
        async with asyncio.timeout(seconds):
            while message.get("more_body"):
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise ApiError(408, f"the body took more than {seconds:.0f} s", code="request_timeout") from None
    return _joined(chunks, limit)


def _joined(chunks: list[bytes], limit: int) -> bytes:
    if sum(map(len, chunks)) > limit:
        raise _too_large(limit)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the request body is larger than {limit} bytes", code="request_too_large")


def _full(room: int, what: str) -> ApiError:
    return ApiError(
        429,
        f"{room} {what} are already here; try again soon",
        type="rate_limit_error",
        code="queue_full",
        retry_after=1,
    )


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _query(scope: Scope) -> dict[str, str]:
    """The parameters by name; the values of a list, which OpenAI's clients write as ``include[]``, joined by commas."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        found[name] = f"{found[name]},{value}" if name.endswith("[]") and name in found else value
    return found


async def send_whole(send: Send, response: Response, extra: Mapping[str, str] = MappingProxyType({})) -> None:
    """Send an answer whose body is complete, with ``extra`` headers."""
    await send(_start(response.status, {**response.headers, **extra}))
    await send({"type": "http.response.body", "body": response.body})


def _start(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}
