"""Runs the compile step of ``inline::onnx`` on a folder, as the builder would: ``compile_model KIND FOLDER QUANTIZE OUT``."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from bench.lines import peak_mb
from lsbuild.api import Source, SourceFile, StepContext
from lsbuild_plugins.onnx.compile import rerank, step


def source(folder: Path) -> Source:
    """The files of ``folder`` as a resolved source; hashing them is the builder's work, but it is counted here too."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return Source(
        uri=str(folder),
        files=tuple(
            SourceFile(path.relative_to(folder).as_posix(), path, _sha256(path), path.stat().st_size) for path in paths
        ),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(kind: str, folder: str, quantize: str, out: str) -> None:
    """``kind`` is decoder, encoder or reranker."""
    context = StepContext(
        out=Path(out),
        options={"quantize": quantize, "context": 512},
        sources={"weights": source(Path(folder))},
        inputs={},
        progress=lambda _done, _total, _label: None,
    )
    context.out.mkdir(parents=True)
    {"decoder": step.decoder, "encoder": step.encoder, "reranker": rerank.reranker}[kind](context)
    print(json.dumps({"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
