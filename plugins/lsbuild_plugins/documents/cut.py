"""Document -> passages with the readers and the chunker of the runtime, or as remembered; it embeds nothing."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from lsbuild.api import SourceFile, StepContext, StepError
from lsbuild_runtime.ports import Attribute, Passage

if TYPE_CHECKING:  # a shard that is remembered whole needs no tokenizer
    from lsbuild_runtime.ingest.chunk import Chunker


class Cut(Struct, frozen=True, array_like=True):
    """A document's own attributes and its passages."""

    attributes: dict[str, Attribute]
    passages: list[Passage]


class Cutter:
    """Cuts the documents of one step: options ``tokens`` and ``overlap``, input ``embedding`` with its tokenizer."""

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def cut(self, file: SourceFile) -> Cut:
        """The passages of a file; IngestError when it cannot be read."""
        key = f"document\0{file.path}\0{file.sha256}"
        known = self._context.memo.get(key)
        if known is not None:
            return msgspec.msgpack.decode(known, type=Cut)
        from lsbuild_runtime.ingest.parse import parse

        document = parse(file.path, file.location.read_bytes())
        cut = Cut(dict(document.attributes), list(self._chunker.cut(document)))
        self._context.memo.put(key, msgspec.msgpack.encode(cut))
        return cut

    @cached_property
    def _chunker(self) -> Chunker:
        from lsbuild_runtime.ingest.chunk import Chunker

        tokenizer = _tokenizer(self._context.inputs["embedding"])
        return Chunker(tokenizer, self._context.options["tokens"], self._context.options["overlap"])


def _tokenizer(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise StepError(
            "the compiled embedding model has no tokenizer.json, so passages cannot be measured in its tokens",
            where=str(folder),
            hint="Use an embedding model with a fast tokenizer.",
        )
    return path
