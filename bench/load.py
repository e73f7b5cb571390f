"""A small load generator: keep-alive connections, one thread each, a fixed number of requests; it knows HTTP/1.1 just enough."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from bench.worker import BenchError


@dataclass(frozen=True, slots=True)
class Load:
    """What came back: seconds of each request, and of all of them together."""

    seconds: tuple[float, ...]
    wall_s: float

    @property
    def p50_ms(self) -> float:
        """The median."""
        return 1000 * quantiles(self.seconds, n=100)[49]

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return len(self.seconds) / self.wall_s


def encode(host: str, path: str, body: Any) -> bytes:
    """One POST request; ``body`` None makes it a GET."""
    data = b"" if body is None else json.dumps(body).encode()
    kind = f"content-type: application/json\r\ncontent-length: {len(data)}\r\n" if data else ""
    return f"{'POST' if data else 'GET'} {path} HTTP/1.1\r\nhost: {host}\r\n{kind}\r\n".encode() + data


class Connection:
    """One keep-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Send ``request`` and return the body of the answer; BenchError unless it is 200 with a content-length."""
        self._socket.sendall(request)
        data = self._socket.recv(65536)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise BenchError(f"the server answered {data[: end + 300].decode(errors='replace')}")
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        while len(data) < end + 4 + length:
            data += self._more()
        return data[end + 4 :]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise BenchError("the server closed the connection within an answer")
        return data


def drive(host: str, port: int, request: bytes, *, connections: int, requests: int) -> Load:
    """``requests`` in all, shared out evenly; BenchError when any of them fails."""
    share = requests // connections
    seconds: list[float] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            mine = []
            with closing(Connection(host, port)) as connection:
                for _ in range(share):
                    start = time.perf_counter()
                    connection.ask(request)
                    mine.append(time.perf_counter() - start)
            seconds.extend(mine)
        except (OSError, BenchError, IndexError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - start
    if errors:
        raise BenchError(f"{len(errors)} of {connections} connections failed: {errors[0]}")
    return Load(tuple(seconds), wall)
