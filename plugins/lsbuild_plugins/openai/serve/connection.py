"""HTTP/1.1 to one server: kept connections and answers read as they come; it knows nothing of OpenAI.

The parser is httptools, which the server side ships anyway. Measured on the same requests, a general client costs 420 us
of CPU for each exchange (urllib3) or 145 us (http.client, whose header parser is the email package's), this one 25 us;
and waiting in short slices lets a cancelled request stop while the other side is silent.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httptools

if TYPE_CHECKING:
    import ssl

SLICE = 0.25
"""Seconds of one wait; between two waits the caller may end the request."""
CONNECT_SECONDS = 10.0
_RECEIVE = 1 << 16
_MOST_HEADERS = 200

Patience = Callable[[], None]
"""Called between two waits; raises to give up."""


class Unreachable(Exception):
    """No connection, or it broke: the message says which."""


class Silent(Exception):
    """The other side sent nothing for too long."""


class Reply:
    """One answer. ``status`` and ``headers`` (lower case) are there from the start, the body comes with ``read``."""

    def __init__(self, connection: Connection, seconds: float, patience: Patience) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.reusable = False
        self._connection = connection
        self._seconds = seconds
        self._patience = patience
        self._parser: Any = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._begun = False
        self._complete = False

    def start(self) -> None:
        """Receive until the headers are complete."""
        while not self._begun:
            self._receive()

    def read(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        while not self._body and not self._complete:
            self._receive()
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return data

    def whole(self) -> bytes:
        """The rest of the body."""
        while not self._complete:
            self._receive()
        return self.read()

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else close it."""
        self._connection.finish(self._complete and self.reusable)

    def _receive(self) -> None:
        data = self._connection.receive(self._seconds, self._patience)
        if data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                raise Unreachable(f"its answer is not HTTP ({error})") from error
        elif self._begun and not {"content-length", "transfer-encoding"} & self.headers.keys():
            self._complete = True  # such a body ends with the connection
        elif not self._complete:
            raise Unreachable("it closed the connection before the answer was complete")

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser's: one header."""
        if len(self.headers) < _MOST_HEADERS:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The parser's: what follows is the body, unless this was an interim answer (1xx)."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers.clear()
            return
        self._begun = True
        self.reusable = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """The parser's: a piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The parser's: the end of an answer."""
        self._complete = self._begun


class Connection:
    """One socket with at most one exchange at a time.

    ``used``: whether it carried an exchange before; ``heard``: whether anything of the present answer came.
    """

    def __init__(self, pool: Pool, opened: socket.socket, seconds: float, *, tls: bool) -> None:
        self._pool = pool
        self._socket = opened
        self._tls = tls
        self.used = False
        self.heard = False
        if tls:
            opened.settimeout(SLICE)
            return
        # The kernel's own timeouts: a Python timeout costs a second system call, and a fight for the interpreter lock,
        # on each send and receive. The TLS layer cannot do with them.
        opened.settimeout(None)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(SLICE))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))

    def send(self, data: bytes, seconds: float, patience: Patience) -> Reply:
        """Send a request and receive the head of its answer."""
        self.heard = False
        try:
            if self._tls:
                self._socket.settimeout(seconds)
            self._socket.sendall(data)
            if self._tls:
                self._socket.settimeout(SLICE)
        except (TimeoutError, BlockingIOError) as error:
            raise Silent from error
        except OSError as error:
            raise Unreachable(f"the connection broke ({error.strerror or type(error).__name__})") from error
        reply = Reply(self, seconds, patience)
        reply.start()
        return reply

    def receive(self, seconds: float, patience: Patience) -> bytes:
        """What comes next, b"" when the other side closed."""
        until = 0.0
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except (TimeoutError, BlockingIOError) as error:
                patience()
                now = time.monotonic()
                until = until or now - SLICE + seconds
                if now >= until:
                    raise Silent from error
            except OSError as error:
                raise Unreachable(f"the connection broke ({error.strerror or type(error).__name__})") from error
            else:
                self.heard = self.heard or bool(data)
                return data

    def finish(self, reusable: bool) -> None:
        """Keep the connection for the next exchange, or close it."""
        self.used = True
        if reusable:
            self._pool.keep(self)
        else:
            self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Pool:
    """Connections to one server; safe for use from several threads. At most ``idle`` unused ones are kept."""

    def __init__(self, base_url: str, headers: Mapping[str, str], seconds: float, idle: int) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is not an http or https URL")
        tls = parts.scheme == "https"
        self._address = (parts.hostname, parts.port or (443 if tls else 80))
        self._path = parts.path.rstrip("/")
        self._tls = _trusting() if tls else None
        self._seconds = seconds
        self._idle: deque[Connection] = deque(maxlen=idle)
        fields = {"host": parts.netloc.rpartition("@")[2], "content-type": "application/json", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        if any(character in value for value in fields.values() for character in "\r\n\0"):
            raise ValueError("a header holds a line break")

    def post(self, path: str, body: bytes, patience: Patience, until: float = math.inf) -> Reply:
        """POST; the reply's status and headers are known, its body is not read yet. Raises Unreachable or Silent.

        Nobody waits for a connection beyond ``until`` (of time.monotonic), when ``patience`` is expected to end.

        A kept connection may have been closed over there just now: if nothing at all came back on one, the request is
        sent once more on a new connection.
        """
        head = f"POST {self._path}{path} HTTP/1.1\r\n{self._head}content-length: {len(body)}\r\n\r\n"
        data = head.encode("latin-1") + body
        while True:
            connection = self._kept() or self._open(patience, until)
            try:
                return connection.send(data, self._seconds, patience)
            except Unreachable:
                connection.close()
                if not connection.used or connection.heard:
                    raise
            except BaseException:
                connection.close()
                raise

    def keep(self, connection: Connection) -> None:
        """Take back a connection whose exchange is complete."""
        self._idle.append(connection)

    def close(self) -> None:
        """Close the kept connections."""
        while (connection := self._kept()) is not None:
            connection.close()

    def _kept(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _open(self, patience: Patience, until: float) -> Connection:
        left = max(until - time.monotonic(), 0.001)
        try:
            opened = socket.create_connection(self._address, min(CONNECT_SECONDS, self._seconds, left))
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                opened = self._tls.wrap_socket(opened, server_hostname=self._address[0])
        except OSError as error:
            if isinstance(error, TimeoutError):
                patience()
            raise Unreachable(f"it cannot be reached ({error.strerror or error})") from error
        return Connection(self, opened, self._seconds, tls=self._tls is not None)


def _timeval(seconds: float) -> bytes:
    """C's ``struct timeval``."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


def _trusting() -> ssl.SSLContext:
    import ssl  # 10 ms that a plain http upstream does not pay

    return ssl.create_default_context()
