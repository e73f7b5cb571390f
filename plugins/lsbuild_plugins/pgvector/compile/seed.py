"""The step that joins all shards into one seed; the same passages give the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from lsbuild.api import Json, StepContext, StepError
from lsbuild_plugins.documents.passages import VECTORS, read
from lsbuild_plugins.pgvector.serve.seed import FILE_NAME, Document, write
from lsbuild_runtime.mutable import StoredFile


def run(context: StepContext) -> Mapping[str, Json]:
    """Option ``embedding`` (the model's name); inputs: one folder for each shard."""
    documents = sorted(_load(context.inputs), key=lambda document: document.file.filename)
    passages = sum(len(document.passages) for document in documents)
    if not passages:
        raise StepError(
            f"none of the {len(documents)} documents holds any text", hint="Check the sources of the vector store."
        )
    dimensions = sum(len(document.vectors) for document in documents) // passages // 4
    path = context.out / FILE_NAME
    write(path, context.options["embedding"], dimensions, documents)
    return {"files": len(documents), "chunks": passages, "dimensions": dimensions, "seed_bytes": path.stat().st_size}


def _load(inputs: Mapping[str, Path]) -> Iterator[Document]:
    for folder in inputs.values():
        indexed = read(folder)
        data = (folder / VECTORS).read_bytes()
        size = len(data) // max(1, sum(len(document.passages) for document in indexed))
        first = 0
        for document in indexed:
            last = first + size * len(document.passages)
            file = StoredFile(
                file_id=file_id(document.path),
                filename=document.path,
                sha256=document.sha256,
                bytes=document.size,
                attributes=document.attributes,
                passages=len(document.passages),
            )
            yield Document(file, document.passages, data[first:last])
            first = last


def file_id(path: str) -> str:
    """The id that clients see; it stays when the file's content changes."""
    return f"file-{hashlib.sha256(path.encode()).hexdigest()[:24]}"
