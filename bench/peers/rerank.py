"""Scores passages with sentence-transformers on torch in float32: ``rerank FOLDER THREADS``."""

from __future__ import annotations

import sys
from typing import Any

import torch
from sentence_transformers import CrossEncoder

from bench.lines import Stopwatch, peak_mb, serve


def measure(model: CrossEncoder, query: str, passages: list[str]) -> dict[str, Any]:
    """The scores of all ``passages`` in one call, as a server would ask."""
    watch = Stopwatch()
    pairs = [(query, passage) for passage in passages]
    found = model.predict(pairs, activation_fn=torch.nn.Sigmoid(), show_progress_bar=False)
    wall, cpu = watch.read()
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak_mb(), "scores": [float(score) for score in found]}


def main(folder: str, threads: str) -> None:
    """Load the model, then answer requests ``{"query": text, "passages": [...]}``."""
    torch.set_num_threads(int(threads))
    model = CrossEncoder(folder, device="cpu")
    serve(lambda request: measure(model, request["query"], request["passages"]), torch=torch.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
