"""Embeds texts with our encoder behind its ``Embeddings`` port: ``embed FOLDER THREADS``."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

from bench.lines import Stopwatch, peak_mb, serve
from bench.ours.decode import NoHost
from lsbuild_plugins.onnx.serve.encoder import Encoder, open_encoder
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service


def measure(encoder: Encoder, texts: list[str], batch: int) -> dict[str, Any]:
    """All ``texts``, ``batch`` at a time; the vectors come back as base64 of float32."""
    watch = Stopwatch()
    vectors: list[bytes] = []
    for start in range(0, len(texts), batch):
        vectors.extend(encoder.embed(texts[start : start + batch], Context()).vectors)
    wall, cpu = watch.read()
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mb": peak_mb(),
        "vectors": base64.b64encode(b"".join(vectors)).decode(),
    }


def main(folder: str, threads: str) -> None:
    """Open the encoder, then answer requests ``{"texts": [...], "batch": n}``."""
    service = Service(
        api="embeddings", name="embed", provider="inline::onnx", entry="", path=Path(folder).name,
        config={"threads": int(threads)},
    )  # fmt: skip
    encoder = open_encoder(service, Path(folder).parent, NoHost())
    serve(lambda request: measure(encoder, request["texts"], request["batch"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
