"""Searches our store by words and by both behind its ``VectorIO`` port: ``text ROOT QUERIES QUESTIONS``.

ROOT is a bundle's root. Answers as `bench.nearest.timed` does, with ``mode`` and ``filtered`` besides. The query's vector is
given: embedding it has figures of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.lines import serve
from bench.nearest import K, timed, vectors
from bench.ours.store import service
from lsbuild_plugins.sqlite_vec.serve import open_store
from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Embedded

FILTER = {"type": "eq", "key": "part", "value": 1}
"""A quarter of the documents."""


class Known:
    """A host with one model, which knows the vectors of some texts."""

    def __init__(self, known: dict[str, bytes]) -> None:
        self._known = known

    def get(self, api: str, name: str) -> Known:  # noqa: ARG002 - there is only one
        """The model."""
        return self

    def state(self, name: str) -> Path:
        """A compiled store keeps nothing."""
        raise LookupError(name)

    def embed(self, inputs: Sequence[Any], context: Context, dimensions: int | None = None) -> Embedded:  # noqa: ARG002
        """See `lsbuild_runtime.ports.Embeddings`."""
        return Embedded(tuple(self._known[text] for text in inputs), 0)


def main(root: str, queries: str, questions: str) -> None:
    """Open the store, then answer requests."""
    asked: list[str] = json.loads(Path(questions).read_text())
    store = open_store(
        service(), Path(root), Known(dict(zip(asked, vectors(Path(queries), 0, len(asked)), strict=True)))
    )

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        filters = FILTER if request["filtered"] else None
        ahead = iter(asked[request["first"] :])

        def search(_vector: bytes) -> list[int]:
            hits = store.search(next(ahead), Context(), limit=K, mode=request["mode"], filters=filters)
            return [hit.line_start for hit in hits]

        return timed(search, Path(queries), request)

    serve(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
