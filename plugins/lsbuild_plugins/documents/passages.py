"""The step that turns one shard of the documents into passages with vectors; the next step joins the shards.

Parsing, cutting and embedding are one step because the last takes nearly all the time, and a step for each document would
start a process and load the model for each. What must not be embedded again is remembered instead (``StepContext.memo``):
the passages of a document by its name and bytes, the vector of a text by the text. So a document that changed costs its
new passages, and a text that stands in many documents of a store, or in two stores with the same model, costs one vector.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from lsbuild.api import Json, Service, SourceError, StepContext
from lsbuild_plugins.documents.cut import Cutter
from lsbuild_plugins.documents.embed import Embedder
from lsbuild_runtime.ingest.document import IngestError
from lsbuild_runtime.ports import Attribute, Passage

PASSAGES = "passages.msgpack"
VECTORS = "vectors.f32"
OR_SKIP = "Or set on_error: skip on the vector store: the build then leaves such documents out and lists them."
_LENGTH = 4
"""Bytes before each document in ``PASSAGES``: its length, little-endian."""


class Indexed(Struct, frozen=True):
    """One document, ready for the index. Its passages' vectors follow those of the document before, in ``VECTORS``."""

    path: str
    sha256: str
    size: int
    attributes: dict[str, Attribute]
    passages: list[Passage]

    @property
    def file_id(self) -> str:
        """The id that clients see; it stays when the file's content changes."""
        return f"file-{hashlib.sha256(self.path.encode()).hexdigest()[:24]}"


def run(context: StepContext) -> Mapping[str, Json]:
    """Options ``service`` (of the embedding model), ``tokens``, ``overlap``, ``on_error`` and ``attributes`` (by path);
    source ``documents``; input ``embedding``.

    One document is held at a time: all are cut first, so that the number of passages is known, then read back.
    """
    skipped: list[Json] = []
    documents = passages = 0
    with (context.out / PASSAGES).open("wb") as file:
        for document in _documents(context, skipped):
            _append(file, document)
            documents += 1
            passages += len(document.passages)
    return {"documents": documents, "passages": passages, **_embed(passages, context), "skipped": skipped}


def read(folder: Path) -> list[Indexed]:
    """What ``run`` wrote, without the vectors."""
    return list(stream(folder))


def stream(folder: Path) -> Iterator[Indexed]:
    """``read``, one document at a time."""
    decoder = msgspec.msgpack.Decoder(Indexed)
    with (folder / PASSAGES).open("rb") as file:
        while length := file.read(_LENGTH):
            yield decoder.decode(file.read(int.from_bytes(length, "little")))


def _append(file: IO[bytes], document: Indexed) -> None:
    data = msgspec.msgpack.encode(document)
    file.write(len(data).to_bytes(_LENGTH, "little"))
    file.write(data)


def _documents(context: StepContext, skipped: list[Json]) -> Iterator[Indexed]:
    """The documents that can be read; the others go to ``skipped``, or end the step."""
    cutter = Cutter(context)
    files = context.sources["documents"].files
    for number, source in enumerate(files, start=1):
        context.progress(0, 0, f"reading {number} of {len(files)}: {source.path}")
        try:
            cut = cutter.cut(source)
        except IngestError as error:
            if context.options["on_error"] == "fail":
                raise SourceError(error.what, where=error.where, hint=f"{error.hint}\n  {OR_SKIP}") from error
            skipped.append({"path": source.path, "reason": error.what})
            continue
        given = context.options["attributes"].get(source.path, {})
        yield Indexed(source.path, source.sha256, source.size, {**given, **cut.attributes}, cut.passages)


def _embed(total: int, context: StepContext) -> Mapping[str, Json]:
    """Write the vectors of all passages. The vector of a text that came before is read back from the file."""
    service = msgspec.convert(context.options["service"], Service)
    places: dict[bytes, tuple[int, int]] = {}
    tokens = done = 0
    with (
        Embedder(service, context.inputs["embedding"], context.memo) as embedder,
        (context.out / VECTORS).open("w+b", buffering=0) as file,
    ):
        for document in stream(context.out):
            for passage in document.passages:
                context.progress(done, total, document.path)
                text = passage.embedded
                digest = hashlib.sha256(text.encode()).digest()
                if digest in places:
                    file.write(os.pread(file.fileno(), *places[digest]))
                else:
                    found = embedder.get(text, f"{document.path}:{passage.line_start}")
                    places[digest] = (len(found.vector), file.tell())
                    file.write(found.vector)
                    tokens += found.tokens
                done += 1
    if total:
        context.progress(total, total, "embedded")
    return {"tokens": tokens, "texts": len(places), "embedded": embedder.embedded}
