"""Scores passages with our cross-encoder behind its ``Reranker`` port: ``rerank FOLDER THREADS``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bench.lines import Stopwatch, peak_mb, serve
from bench.ours.decode import NoHost
from lsbuild_plugins.onnx.serve.reranker import CrossEncoder, open_reranker
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service


def measure(model: CrossEncoder, query: str, passages: list[str]) -> dict[str, Any]:
    """The scores of all ``passages``, in their order."""
    watch = Stopwatch()
    found = model.score(query, passages, Context())
    wall, cpu = watch.read()
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak_mb(), "scores": found.values}


def main(folder: str, threads: str) -> None:
    """Open the model, then answer requests ``{"query": text, "passages": [...]}``."""
    service = Service(
        api="rerank", name="judge", provider="inline::onnx", entry="", path=Path(folder).name,
        config={"threads": int(threads)},
    )  # fmt: skip
    model = open_reranker(service, Path(folder).parent, NoHost())
    serve(lambda request: measure(model, request["query"], request["passages"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
