"""The step that joins all shards into one seed; the same passages give the same bytes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from pathlib import Path

from lsbuild.api import Json, StepContext, StepError
from lsbuild_plugins.documents.passages import VECTORS, stream
from lsbuild_plugins.pgvector.serve.seed import FILE_NAME, Document, write
from lsbuild_runtime.mutable import StoredFile


def run(context: StepContext) -> Mapping[str, Json]:
    """Option ``embedding`` (the model's name); inputs: one folder for each shard. One document of each is in memory."""
    folders = list(context.inputs.values())
    counts = [sum(len(document.passages) for document in stream(folder)) for folder in folders]
    if not any(counts):
        raise StepError("none of the documents holds any text", hint="Check the sources of the vector store.")
    size = sum((folder / VECTORS).stat().st_size for folder in folders) // sum(counts)
    shards = (_documents(folder, size) for folder in folders)  # each is sorted by name already
    joined = heapq.merge(*shards, key=lambda document: document.file.filename)
    header = write(context.out, context.options["embedding"], size // 4, joined)
    return {
        "files": header.files,
        "chunks": sum(counts),
        "dimensions": header.dimensions,
        "seed_bytes": (context.out / FILE_NAME).stat().st_size,
    }


def _documents(folder: Path, size: int) -> Iterator[Document]:
    """The documents of a shard; a vector has ``size`` bytes."""
    with (folder / VECTORS).open("rb") as vectors:
        for document in stream(folder):
            file = StoredFile(
                file_id=document.file_id,
                filename=document.path,
                sha256=document.sha256,
                bytes=document.size,
                attributes=document.attributes,
                passages=len(document.passages),
            )
            yield Document(file, document.passages, vectors.read(size * len(document.passages)))
