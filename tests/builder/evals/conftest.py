"""A server of the API with one store and one agent, for what asks over HTTP."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest


class Handler(http.server.BaseHTTPRequestHandler):
    """Finds the question itself; says "said" and cites line 2."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer: dict[str, Any] | None = None
        if self.path == "/v1/vector_stores/docs/search" and body.get("search_mode") != "keyword":
            hit = {"filename": "a.md", "score": 0.5, "content": [{"type": "text", "text": body["query"]}]}
            answer = {"data": [hit, {**hit, "attributes": {"line_start": 2, "line_end": 4.0, "heading": "H"}}]}
        if self.path == "/v1/chat/completions":
            note = {"type": "file_citation", "file_citation": {"filename": "a.md", "line_start": 2, "line_end": 2}}
            answer = {"choices": [{"message": {"content": "said", "annotations": [note]}}]}
        self.send_response(200 if answer else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/"
        server.shutdown()
        thread.join()
