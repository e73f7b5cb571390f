"""A client of the Lambda Runtime API over one kept connection: next, response (whole or streamed), errors, restore.

It speaks just enough HTTP/1.1 for an endpoint on this very machine; ``http.client`` alone would cost a tenth of a cold
start, and cannot send trailers.
"""

from __future__ import annotations

import socket
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

VERSION = "2018-06-01"
STREAM_TYPE = "application/vnd.awslambda.http-integration-response"
"""The content type of a streamed answer whose head is a JSON prelude."""
PRELUDE_END = b"\0" * 8
_PIECE = 1 << 16
_LONGEST_HEAD = 1 << 18
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"


class RuntimeApiError(Exception):
    """The Runtime API cannot be reached, or refused what it was sent."""


class TooLarge(Exception):
    """The Runtime API refused an answer for its size (413)."""


class Invocation(Struct, frozen=True):
    """One event to answer. ``deadline`` is on the clock of ``time.monotonic``; ``trace`` is X-Ray's header, "" without one."""

    id: str
    event: bytes
    deadline: float
    function_arn: str = ""
    trace: str = ""


class RuntimeApi:
    """The Runtime API at ``address`` (``host:port``, as in AWS_LAMBDA_RUNTIME_API). Not safe for several threads."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._place = (host, int(port or 80))
        self.address = address
        self._socket: socket.socket | None = None
        self._rest = b""

    def next(self) -> Invocation:
        """Wait for the next event, however long that takes."""
        _, headers, event = self._ask("GET", "runtime/invocation/next")
        left = int(headers.get("lambda-runtime-deadline-ms", 0)) / 1000 - time.time()
        return Invocation(
            id=headers.get("lambda-runtime-aws-request-id", ""),
            event=event,
            deadline=time.monotonic() + left,
            function_arn=headers.get("lambda-runtime-invoked-function-arn", ""),
            trace=headers.get("lambda-runtime-trace-id", ""),
        )

    def respond(self, invocation: str, payload: bytes) -> None:
        """Answer in one piece. Raises TooLarge when the service does not take that much."""
        self._tell(f"runtime/invocation/{invocation}/response", payload, {"Content-Type": "application/json"})

    def stream(self, invocation: str, prelude: bytes, chunks: Iterable[bytes]) -> None:
        """Answer in pieces, each sent as soon as it is there; ``prelude`` is the JSON head of the HTTP answer.

        A failure of ``chunks`` goes to the service in trailers: the client sees a cut answer, never a whole one. It is
        not raised again.
        """
        head = {
            "Content-Type": STREAM_TYPE,
            "Lambda-Runtime-Function-Response-Mode": "streaming",
            "Transfer-Encoding": "chunked",
            "Trailer": f"{_ERROR_TYPE}, {_ERROR_BODY}",
        }
        self._begin("POST", f"runtime/invocation/{invocation}/response", head)
        self._send(_chunk(prelude + PRELUDE_END))
        trailers = b""
        try:
            for chunk in chunks:
                if chunk:  # an empty one would be the end
                    self._send(_chunk(chunk))
        except RuntimeApiError:
            raise
        except Exception as error:
            trailers = _trailers(error)
        self._send(b"0\r\n" + trailers + b"\r\n")
        self._accepted(*self._answer())

    def fail(self, invocation: str, error: BaseException) -> None:
        """Say that this event could not be answered."""
        self._report(f"runtime/invocation/{invocation}/error", error)

    def fail_init(self, error: BaseException) -> None:
        """Say that this function cannot start."""
        self._report("runtime/init/error", error)

    def fail_restore(self, error: BaseException) -> None:
        """Say that this function cannot go on from its snapshot."""
        self._report("runtime/restore/error", error)

    def restore(self) -> None:
        """Say that a snapshot may be taken; returns in the restored copy, on a new connection."""
        self._ask("GET", "runtime/restore/next")
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def _report(self, path: str, error: BaseException) -> None:
        kind = type(error).__name__
        body = msgspec.json.encode({"errorMessage": str(error), "errorType": kind, "stackTrace": []})
        self._tell(path, body, {"Content-Type": "application/vnd.aws.lambda.error+json", _ERROR_TYPE: kind})

    def _ask(self, method: str, path: str) -> tuple[int, Mapping[str, str], bytes]:
        self._begin(method, path, {})
        status, headers, body = self._answer()
        self._accepted(status, headers, body)
        return status, headers, body

    def _tell(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        self._begin("POST", path, {**headers, "Content-Length": str(len(body))}, body)
        self._accepted(*self._answer())

    def _accepted(self, status: int, _headers: Mapping[str, str], body: bytes) -> None:
        if status == 413:
            raise TooLarge(body[:300].decode("utf-8", "replace"))
        if status >= 300:
            raise RuntimeApiError(f"the Runtime API answered {status}: {body[:300].decode('utf-8', 'replace')}")

    def _begin(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        lines = [f"{method} /{VERSION}/{path} HTTP/1.1", f"Host: {self.address}", "User-Agent: lsbuild"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def _send(self, data: bytes) -> None:
        try:
            if self._socket is None:
                # Not create_connection, which loads the tables of international names: 1 ms of a cold start.
                self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                self._socket.connect(self._place)
                # Pieces of a stream shall leave as they come.
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(data)
        except OSError as error:
            self.close()
            raise RuntimeApiError(f"the Runtime API at {self.address} cannot be reached: {error}") from error

    def _answer(self) -> tuple[int, Mapping[str, str], bytes]:
        """(status, headers with lower-case names, body) of the answer that comes now; a 100 before it is passed over."""
        status = 100
        while status < 200:
            head = self._until(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            try:
                status = int(first.split(" ", 2)[1])
            except (IndexError, ValueError):
                raise RuntimeApiError(f"the Runtime API answered {first[:80]!r}, which is no HTTP") from None
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._chunked()
        else:
            body = self._exactly(int(headers.get("content-length", 0)))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, body

    def _chunked(self) -> bytes:
        pieces = []
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            pieces.append(self._exactly(size))
            self._exactly(2)
        while self._until(b"\r\n"):
            pass  # trailers
        return b"".join(pieces)

    def _until(self, end: bytes) -> bytes:
        while end not in self._rest:
            if len(self._rest) > _LONGEST_HEAD:
                raise RuntimeApiError("the head of an answer of the Runtime API does not end")
            self._rest += self._receive()
        found, _, self._rest = self._rest.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        pieces = [self._rest[:size]]
        self._rest = self._rest[size:]
        missing = size - len(pieces[0])
        while missing:
            piece = self._receive()
            pieces.append(piece[:missing])
            self._rest = piece[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _receive(self) -> bytes:
        try:
            piece = self._socket.recv(_PIECE) if self._socket is not None else b""
        except OSError as error:
            self.close()
            raise RuntimeApiError(f"the Runtime API went away: {error}") from error
        if not piece:
            self.close()
            raise RuntimeApiError("the Runtime API closed the connection in the middle of an answer")
        return piece


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _trailers(error: BaseException) -> bytes:
    kind = type(error).__name__
    body = msgspec.json.encode({"errorMessage": str(error), "errorType": kind, "stackTrace": []})
    return f"{_ERROR_TYPE}: {kind}\r\n{_ERROR_BODY}: {b64encode(body).decode()}\r\n".encode("latin-1")
