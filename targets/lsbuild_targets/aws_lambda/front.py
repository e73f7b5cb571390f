"""A server on loopback that hands HTTP requests to a function and its answers back, chunk by chunk where they come so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lsbuild_targets.aws_lambda import doors

Invoke = Callable[[bytes], Iterator[bytes]]
"""Takes an event, gives the payload in the pieces it comes in. Raises FunctionFailed, also in the middle."""


@contextmanager
def front(invoke: Invoke, *, streams: bool) -> Iterator[str]:
    """Serve ``invoke``; gives the base URL. With ``streams`` it is a function URL, else an HTTP API."""
    handler = type("Handler", (_Front,), {"invoke": staticmethod(invoke), "streams": streams})
    with serving(handler) as address:
        yield f"http://{address}"


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A threading server with ``handler`` on a free port of loopback; gives ``host:port``."""
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class Quiet(BaseHTTPRequestHandler):
    """HTTP/1.1 without a log."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def body(self) -> bytes:
        """The whole body of a request with a length."""
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def reply(self, answer: doors.Answer) -> None:
        """Send a whole answer."""
        self._head(answer, ("content-length", str(len(answer.body))))
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def relay(self, answer: doors.Answer, chunks: Iterator[bytes]) -> None:
        """Send an answer whose body comes in chunks; one that fails is left without an end."""
        self._head(answer, ("transfer-encoding", "chunked"))
        for chunk in chunks:
            if chunk:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, answer: doors.Answer, length: tuple[str, str]) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header(*length)
        self.end_headers()


class _Front(Quiet):
    invoke: Invoke
    streams: bool

    def _any(self) -> None:
        event = doors.event(self.command, self.path, self.headers.items(), self.body(), streams=self.streams)
        try:
            pieces = self.invoke(event)
            if self.streams:
                self._streamed(pieces)
            else:
                self.reply(doors.answer(b"".join(pieces)))
        except doors.FunctionFailed as error:
            self.reply(doors.Answer(502, (("content-type", "text/plain"),), f"{error}\n".encode()))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _any  # noqa: N815 - http.server's names

    def _streamed(self, pieces: Iterator[bytes]) -> None:
        head = b""
        for piece in pieces:
            head += piece
            if doors.PRELUDE_END in head:
                break
        prelude, end, rest = head.partition(doors.PRELUDE_END)
        if not end:
            raise doors.FunctionFailed(f"the stream ended before its prelude did: {head[:200]!r}")
        try:
            self.relay(doors.beginning(prelude), _chain(rest, pieces))
        except doors.FunctionFailed:
            self.close_connection = True  # the client sees that its answer was cut


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
