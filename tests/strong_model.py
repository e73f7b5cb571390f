"""A server with OpenAI's API that stands for a strong model: it calls the tools that the user names, in order, then reports.

It does what a good model would, and nothing that it is not told: each line ``call NAME {json}`` of the last user message
is one step. What it answers in the end holds every result it was given, so that a test sees what really came back.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_STEP = re.compile(r"^\s*call (\S+) (\{.*\})\s*$", re.MULTILINE)


class StrongModel(ThreadingHTTPServer):
    """Loopback only. ``requests`` are the bodies it was sent, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []

    @property
    def base(self) -> str:
        """The base URL of its API."""
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def strong_model() -> Iterator[StrongModel]:
    """The server, running."""
    server = StrongModel()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def text_of(content: Any) -> str:
    """The text of a message, whatever its form."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or ())


def next_message(body: dict[str, Any]) -> dict[str, Any]:
    """What the model says to a request: the next call, or the report."""
    messages = body["messages"]
    place = max(index for index, message in enumerate(messages) if message["role"] == "user")
    steps = _STEP.findall(text_of(messages[place].get("content")))
    results = [text_of(message.get("content")) for message in messages[place:] if message["role"] == "tool"]
    offered = [tool["function"]["name"] for tool in body.get("tools") or ()]
    if len(results) < len(steps) and offered:
        wanted, arguments = steps[len(results)]
        name = next((each for each in offered if each == wanted or each.endswith(f"_{wanted}")), wanted)
        call = {"id": f"call_{place}_{len(results)}", "type": "function"}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**call, "function": {"name": name, "arguments": arguments}}],
        }
    said = " | ".join(" ".join(result.split()) for result in results) or text_of(messages[place].get("content"))
    cited = " [1]" if any(result.startswith("[1]") for result in results) else ""
    return {"role": "assistant", "content": f"I found: {said}{cited}"}


class _Handler(BaseHTTPRequestHandler):
    server: StrongModel
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(body)
        message = next_message(body)
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        head = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": finish}
            answer = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            self._send("application/json", json.dumps(answer).encode())
            return
        chunks = [{"index": 0, "delta": piece, "finish_reason": None} for piece in _pieces(message)]
        chunks.append({"index": 0, "delta": {}, "finish_reason": finish})
        events = [{**head, "object": "chat.completion.chunk", "choices": [chunk]} for chunk in chunks]
        events.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        self._send("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]).encode())

    def _send(self, media: str, data: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", media)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _pieces(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message as a stream: text in small pieces, the arguments of a call in two."""
    yield {"role": "assistant"}
    for piece in re.findall(r"\s*\S+", message.get("content") or ""):
        yield {"content": piece}
    for index, call in enumerate(message.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        half = len(arguments) // 2
        yield {"tool_calls": [{**call, "index": index, "function": {"name": name, "arguments": arguments[:half]}}]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]}
