"""Embeds texts with sentence-transformers on torch in float32: ``embed FOLDER THREADS``."""

from __future__ import annotations

import base64
import sys
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from bench.lines import Stopwatch, peak_mb, serve


def measure(model: SentenceTransformer, texts: list[str], batch: int) -> dict[str, Any]:
    """All ``texts``, ``batch`` in each call, as a server would get them."""
    watch = Stopwatch()
    vectors = []
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        vectors.append(model.encode(part, batch_size=batch, normalize_embeddings=True, show_progress_bar=False))
    wall, cpu = watch.read()
    joined = np.concatenate(vectors).astype("<f4")
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mb": peak_mb(),
        "vectors": base64.b64encode(joined.tobytes()).decode(),
    }


def main(folder: str, threads: str) -> None:
    """Load the model, then answer requests ``{"texts": [...], "batch": n}``."""
    torch.set_num_threads(int(threads))
    model = SentenceTransformer(folder, device="cpu")
    serve(lambda request: measure(model, request["texts"], request["batch"]), torch=torch.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
