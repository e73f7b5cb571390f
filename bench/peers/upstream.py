"""A tiny OpenAI-compatible server that answers at once with the same text; standard library only. It stands for the cloud.

It is as fast as Python allows (one asyncio protocol, prepared bytes), so that what is measured is what stands before it.
``upstream [PORT]``: without one it takes a free port.
"""

from __future__ import annotations

import asyncio
import json
import sys

TEXT = "The pump needs new oil after two hundred hours of work, and its filter after five hundred."
_ID = {"id": "chatcmpl-1", "created": 1700000000, "model": "cloud"}
_MESSAGE = {"role": "assistant", "content": TEXT}
_ANSWER = json.dumps(
    {
        **_ID,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 24, "completion_tokens": 20, "total_tokens": 44},
    }
).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
PLAIN = _HEAD % len(_ANSWER) + _ANSWER


def _streamed() -> bytes:
    pieces = [f"{word} " for word in TEXT.split()]
    deltas = [
        ({"role": "assistant", "content": pieces[0]}, None),
        *(({"content": piece}, None) for piece in pieces[1:]),
    ]
    events = [
        {**_ID, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in [*deltas, ({}, "stop")]
    ]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


STREAMED = _streamed()


class Protocol(asyncio.Protocol):
    """One connection; requests may come in pieces and after one another."""

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every complete request."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            _, found, rest = self._data[:end].lower().partition(b"content-length:")
            length = int(rest.split(b"\r\n", 1)[0]) if found else 0
            if len(self._data) < end + 4 + length:
                return
            body, self._data = self._data[end + 4 : end + 4 + length], self._data[end + 4 + length :]
            assert self._transport is not None
            self._transport.write(STREAMED if b'"stream":true' in body.replace(b" ", b"") else PLAIN)


async def main(port: int) -> None:
    """Listen on ``port`` of the loopback interface, print the address, serve until killed."""
    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
