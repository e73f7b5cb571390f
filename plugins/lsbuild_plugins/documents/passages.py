"""The step that turns one shard of the documents into passages with vectors; the next step joins the shards.

Why shards: a step sees only its own inputs, so what must not be embedded again has to be a step of its own. A step for
each document would start a process and load the model for each (figures: see `shards`), one step for all would embed
everything again after a typo. Parsing, cutting and embedding are one step because the last takes nearly all the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from lsbuild.api import Json, Service, SourceError, SourceFile, StepContext, StepError
from lsbuild_plugins.documents.embed import opened, vector
from lsbuild_runtime.ingest.chunk import Chunker
from lsbuild_runtime.ingest.document import IngestError
from lsbuild_runtime.ingest.parse import parse
from lsbuild_runtime.ports import Attribute, Passage

PASSAGES = "passages.msgpack"
VECTORS = "vectors.f32"


class Indexed(Struct, frozen=True):
    """One document, ready for the index. Its passages' vectors follow those of the document before, in ``VECTORS``."""

    path: str
    sha256: str
    size: int
    attributes: dict[str, Attribute]
    passages: list[Passage]


def run(context: StepContext) -> Mapping[str, Json]:
    """Options ``service`` (of the embedding model), ``tokens``, ``overlap``; source ``documents``; input ``embedding``."""
    service = msgspec.convert(context.options["service"], Service)
    folder = context.inputs["embedding"]
    chunker = Chunker(_tokenizer(folder), context.options["tokens"], context.options["overlap"])
    documents = [_cut(file, chunker) for file in context.sources["documents"].files]
    (context.out / PASSAGES).write_bytes(msgspec.msgpack.encode(documents))
    tokens = _embed(documents, service, folder, context)
    passages = sum(len(document.passages) for document in documents)
    return {"documents": len(documents), "passages": passages, "tokens": tokens}


def read(folder: Path) -> list[Indexed]:
    """What ``run`` wrote, without the vectors."""
    return msgspec.msgpack.decode((folder / PASSAGES).read_bytes(), type=list[Indexed])


def _tokenizer(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise StepError(
            "the compiled embedding model has no tokenizer.json, so passages cannot be measured in its tokens",
            where=str(folder),
            hint="Use an embedding model with a fast tokenizer.",
        )
    return path


def _cut(file: SourceFile, chunker: Chunker) -> Indexed:
    try:
        document = parse(file.path, file.location.read_bytes())
    except IngestError as error:
        raise SourceError(error.what, where=error.where, hint=error.hint) from error
    passages = list(chunker.cut(document))
    return Indexed(file.path, file.sha256, file.size, dict(document.attributes), passages)


def _embed(documents: list[Indexed], service: Service, folder: Path, context: StepContext) -> int:
    """Write the vectors of all passages; equal texts are embedded once. Returns the number of tokens read."""
    todo = [(document.path, passage) for document in documents for passage in document.passages]
    known: dict[str, bytes] = {}
    tokens = 0
    with (context.out / VECTORS).open("wb") as file:
        if not todo:
            return 0
        with opened(service, folder) as model:
            for done, (path, passage) in enumerate(todo):
                context.progress(done, len(todo), path)
                text = passage.embedded
                if text not in known:
                    known[text], read_tokens = vector(model, text, f"{path}:{passage.line_start}")
                    tokens += read_tokens
                file.write(known[text])
    context.progress(len(todo), len(todo), "embedded")
    return tokens
