"""A little HTTP server on loopback that answers, hangs, resets and lies as a test says; it knows no API."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

Behaviour = Callable[[socket.socket, "Upstream"], None]


class Upstream:
    """A server on loopback; each request is answered as ``behaviour`` says, on a thread of its own."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.asked = 0
        self.bodies: list[bytes] = []
        """What it was sent."""
        self.gone = threading.Event()
        """Set when a client went away before its answer was complete."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        try:
            with connection:
                if (body := received(connection)) is not None:
                    self.asked += 1
                    self.bodies.append(body)
                    self.behaviour(connection, self)
        except OSError:
            self.gone.set()

    def close(self) -> None:
        """Accept nobody any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def received(connection: socket.socket) -> bytes | None:
    """The body of one request; None when the client closed instead."""
    data = b""
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return body
        more = connection.recv(65536)
        if not more:
            return None
        data += more


def status(number: int, body: dict[str, Any], *headers: str) -> Behaviour:
    """An answer that is JSON."""
    data = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {number} X", f"content-length: {len(data)}", "connection: close", *headers, "", ""]

    def behave(connection: socket.socket, _upstream: Upstream) -> None:
        connection.sendall("\r\n".join(lines).encode() + data)

    return behave


def fault(code: str | None = None, message: str = "no", **more: Any) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": "x", "param": None, "code": code, **more}}


def sends(data: bytes) -> Behaviour:
    """Bytes as they are, and the end of the connection."""

    def behave(connection: socket.socket, _upstream: Upstream) -> None:
        connection.sendall(data)

    return behave


def hangs(connection: socket.socket, upstream: Upstream) -> None:
    """Never say anything; notice when the client leaves."""
    if not connection.recv(1):
        upstream.gone.set()


def resets(connection: socket.socket, _upstream: Upstream) -> None:
    """Cut the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
