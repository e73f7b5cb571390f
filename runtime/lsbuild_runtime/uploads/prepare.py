"""An uploaded file -> passages with their vectors; it reads bytes it is given and writes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from lsbuild_runtime.http import ApiError, Context, Silence, Watch
from lsbuild_runtime.mutable import TOKENIZER
from lsbuild_runtime.ports import Attribute, Passage

if TYPE_CHECKING:
    from lsbuild_runtime.ingest.chunk import Chunker
    from lsbuild_runtime.manifest import Service
    from lsbuild_runtime.ports import Embeddings
    from lsbuild_runtime.uploads.attached import Chunking

GROUP = 16
"""Passages that are embedded by one call: between two calls the work can be given up."""
GROUP_SECONDS = 120.0
_MOST_CHUNKERS = 4


class Unreadable(Exception):
    """A file that cannot be stored, whatever is tried: OpenAI's code and what to tell the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Text(Struct, frozen=True):
    """What was read: the attributes that the document itself has, and its passages."""

    attributes: Mapping[str, Attribute]
    passages: list[Passage]


class Reader:
    """Reads and cuts files; keeps the few chunkers in use, for a tokenizer takes a moment to load. For one thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._chunkers: dict[tuple[str, int, int], Chunker] = {}

    def read(self, service: Service, filename: str, file_id: str, content: bytes, chunking: Chunking) -> Text:
        """The passages of a file for a store of ``service``; Unreadable says why there are none."""
        from lsbuild_runtime.ingest.document import Document, IngestError
        from lsbuild_runtime.ingest.parse import kind, parse

        try:
            kind(filename)
        except IngestError as error:
            raise Unreadable("unsupported_file", f"{error.what}. {error.hint}") from error
        try:
            found = parse(filename, content)
        except IngestError as error:
            raise Unreadable("invalid_file", f"{error.what}. {error.hint}") from error
        # The ids of passages are made of the document's path: two uploads of one name must not share them.
        document = Document(file_id, found.text, found.sections, found.attributes)
        passages = list(self._chunker(service, chunking).cut(document))
        if not passages:
            raise Unreadable("invalid_file", "The file holds no text. Scanned pages need text recognition first.")
        return Text(document.attributes, passages)

    def _chunker(self, service: Service, chunking: Chunking) -> Chunker:
        from lsbuild_runtime.ingest.chunk import Chunker

        key = (str(service.config[TOKENIZER]), chunking.tokens, chunking.overlap)
        if key not in self._chunkers:
            if len(self._chunkers) >= _MOST_CHUNKERS:
                self._chunkers.pop(next(iter(self._chunkers)))
            self._chunkers[key] = Chunker(self._root / key[0], chunking.tokens, chunking.overlap)
        return self._chunkers[key]


def embed(
    model: Embeddings,
    passages: Sequence[Passage],
    cancel: threading.Event,
    going_on: Callable[[], object],
    watch: Watch | None = None,
) -> list[bytes]:
    """One vector for each passage, a group at a time; ``going_on`` is called between groups and may raise.

    ApiError as the model's, Cancelled when ``cancel`` is set.
    """
    vectors: list[bytes] = []
    for start in range(0, len(passages), GROUP):
        going_on()
        context = Context(deadline=time.monotonic() + GROUP_SECONDS, cancel=cancel, watch=watch or Silence())
        context.check()
        group = [passage.embedded for passage in passages[start : start + GROUP]]
        vectors += model.embed(group, context).vectors
    return vectors


def for_good(error: ApiError) -> bool:
    """Whether an error would come again: a 4xx other than those of time and load."""
    return 400 <= error.status < 500 and error.status not in (408, 429)
