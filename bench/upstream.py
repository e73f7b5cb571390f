"""A loopback server that answers chat completions with a fixed body, as fast as asyncio can: what a proxy stands before.

``python bench/upstream.py PORT [CHUNKS]``: a request with ``"stream":true`` gets CHUNKS (default 50) events.
"""

from __future__ import annotations

import asyncio
import json
import sys


def chunk(text: str, finish: str | None) -> bytes:
    """One event of a stream."""
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
    return (
        b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
    )


ANSWER = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{
        "index": 0, "message": {"role": "assistant", "content": "A short answer of a few words.", "refusal": None},
        "logprobs": None, "finish_reason": "stop",
    }],
    "usage": {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20},
}).encode()  # fmt: skip


class Upstream(asyncio.Protocol):
    """Just enough HTTP/1.1 for a client that sends content-length and one request at a time."""

    def __init__(self, events: bytes) -> None:
        self._events = events
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when the whole body is here."""
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
        if len(body) < length:
            return
        self._data = b""
        if b'"stream":true' in body.replace(b" ", b""):
            size = f"{len(self._events):x}".encode()
            kind = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            self._transport.write(b"HTTP/1.1 200 OK\r\n" + kind + size + b"\r\n" + self._events + b"\r\n0\r\n\r\n")
            return
        kind = b"content-type: application/json\r\ncontent-length: " + str(len(ANSWER)).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n" + ANSWER)


async def main(port: int, chunks: int) -> None:
    """Serve until killed."""
    events = b"".join(chunk(" word", None) for _ in range(chunks)) + chunk("", "stop") + b"data: [DONE]\n\n"
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(events), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 50))
