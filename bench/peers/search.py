"""What one writes by hand for embedding and search: FastAPI, sentence-transformers, numpy. ``search MODEL_FOLDER PASSAGES.json``.

Vectors of the passages are made beforehand and lie beside the file (``PASSAGES.npy``); without arguments it only
answers /v1/health.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI  # type: ignore[import-not-found]
from pydantic import BaseModel


class Embed(BaseModel):
    """A request for vectors."""

    model: str
    input: str


class Query(BaseModel):
    """A request for passages."""

    query: str
    max_num_results: int = 3


def application() -> FastAPI:
    """Health alone."""
    app = FastAPI()

    async def health() -> dict[str, str]:
        return {"status": "OK"}

    app.add_api_route("/v1/health", health)
    return app


def add_search(app: FastAPI, folder: str, passages: Path) -> None:
    """Load model and vectors, add the two routes."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    texts, vectors = json.loads(passages.read_text()), np.load(passages.with_suffix(".npy"))

    def embed(text: str) -> Any:
        return model.encode([text], normalize_embeddings=True, show_progress_bar=False)[0]

    def embeddings(body: Embed) -> dict[str, Any]:
        return {"object": "list", "data": [{"index": 0, "embedding": embed(body.input).tolist()}]}

    def search(body: Query) -> dict[str, Any]:
        scores = vectors @ embed(body.query)
        best = scores.argsort()[::-1][: body.max_num_results]
        return {"data": [{"score": float(scores[at]), "text": texts[at]} for at in best]}

    app.add_api_route("/v1/embeddings", embeddings, methods=["POST"])
    app.add_api_route("/v1/vector_stores/docs/search", search, methods=["POST"])


def main(arguments: list[str]) -> None:
    """Serve on a free port."""
    app = application()
    if arguments:
        add_search(app, arguments[0], Path(arguments[1]))
    uvicorn.run(app, host="127.0.0.1", port=0, access_log=False)


if __name__ == "__main__":
    main(sys.argv[1:])
