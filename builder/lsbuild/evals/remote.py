"""Asks a server over HTTP: searches of ``/v1/vector_stores/{id}/search``, agents through ``/v1/chat/completions``.

Any server of the same API will do (lsbuild's own, OGX, OpenAI's form of it). What it does not tell of a passage, such as
lines, is left open.
"""

from __future__ import annotations

import json
import os
from typing import Any

from lsbuild.errors import VerifyError
from lsbuild.evals.measure import Said
from lsbuild.evals.result import Place

API_KEY = "LSBUILD_API_KEY"
"""The environment variable whose value goes into the Authorization header."""
_TIMEOUT_S = 120.0


class Server:
    """A server by its base URL; VerifyError when it does not answer 200 with what is expected."""

    def __init__(self, base_url: str) -> None:
        import urllib3

        self._base = base_url.rstrip("/").removesuffix("/v1")
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False)

    def search(self, store: str, question: str, k: int, mode: str) -> list[Place]:
        """The best ``k`` passages; ``mode`` "" leaves the choice to the server."""
        body: dict[str, Any] = {"query": question, "max_num_results": k}
        if mode:
            body["search_mode"] = mode
        return [_place(hit) for hit in self._post(f"/v1/vector_stores/{store}/search", body)["data"]]

    def answer(self, agent: str, question: str) -> Said:
        """An agent's answer at temperature 0."""
        body = {"model": agent, "messages": [{"role": "user", "content": question}], "temperature": 0}
        message = self._post("/v1/chat/completions", body)["choices"][0]["message"]
        notes = [note.get("file_citation", note) for note in message.get("annotations") or ()]
        return Said(message.get("content") or "", tuple(_citation(note) for note in notes))

    def _post(self, path: str, body: object) -> Any:
        import urllib3

        headers = {"content-type": "application/json"}
        if key := os.environ.get(API_KEY):
            headers["authorization"] = f"Bearer {key}"
        try:
            response = self._pool.request("POST", self._base + path, body=json.dumps(body).encode(), headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise VerifyError(f"no answer: {error}", where=self._base, hint="Start the server first.") from error
        if response.status != 200:
            detail = response.data[:300].decode(errors="replace")
            raise VerifyError(f"POST {path} gave {response.status}: {detail}", where=self._base)
        return json.loads(response.data)


def _place(hit: dict[str, Any]) -> Place:
    told = hit.get("attributes") or {}
    return Place(
        file=str(hit.get("filename") or hit.get("file_id") or ""),
        text="\n".join(str(part.get("text", "")) for part in hit.get("content") or ()),
        heading=str(told.get("heading", "")),
        first=_line(told, "line_start"),
        last=_line(told, "line_end"),
        score=float(hit.get("score") or 0.0),
    )


def _citation(note: dict[str, Any]) -> Place:
    return Place(
        file=str(note.get("filename", "")),
        text=str(note.get("quote", "")),
        heading=str(note.get("heading", "")),
        first=_line(note, "line_start"),
        last=_line(note, "line_end"),
    )


def _line(told: dict[str, Any], name: str) -> int:
    return int(told[name]) if isinstance(told.get(name), int | float) else 0
