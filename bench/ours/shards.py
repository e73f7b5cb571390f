"""Writes vectors as the passages step would have: ``shards VECTORS OUT [TEXTS]``; nothing here is measured.

TEXTS is JSON, ``[[name, [text, ...]], ...]``, in the order of the vectors; without it documents of 100 empty passages stand
for them. Documents carry the attribute ``part`` (0 to 3); their paths begin with the row of their first vector, so that a
found passage says which row it is (`row`).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import msgspec

from bench.nearest import WIDTH
from lsbuild_plugins.documents.passages import PASSAGES, VECTORS, Indexed, read
from lsbuild_runtime.ports import Passage, passage_id

PASSAGES_PER_DOCUMENT = 100
DOCUMENTS_PER_SHARD = 40
PARTS = 4
DIGITS = 7
"""Of a row, at the begin of a path."""

Document = tuple[str, list[str]]


def blank(vectors: int) -> Iterator[Document]:
    """Documents without words for so many vectors."""
    for first in range(0, vectors, PASSAGES_PER_DOCUMENT):
        yield f"{first:0{DIGITS}}.txt", [""] * min(PASSAGES_PER_DOCUMENT, vectors - first)


def row(path: str, line: int) -> int:
    """The row of the vector of a document's passage."""
    return int(path[:DIGITS]) + line - 1


def indexed(number: int, first: int, name: str, texts: list[str]) -> Indexed:
    """A document as it is kept between the steps; ``first`` is the row of its first passage."""
    numbered = f"{first:0{DIGITS}}"
    path = name if name.startswith(numbered) else f"{numbered}-{name}"
    passages, start = [], 0
    for line, text in enumerate(texts, start=1):
        end = start + len(text)
        passages.append(Passage(passage_id(path, start, end, text), text, name, "", start, end, line, line))
        start = end + 1
    sha256 = hashlib.sha256(path.encode()).hexdigest()
    return Indexed(path, sha256, start, {"part": number % PARTS}, passages)


def with_rows(documents: Iterable[Document]) -> Iterator[tuple[int, int, Document]]:
    """(number, row of the first passage, document)."""
    first = 0
    for number, document in enumerate(documents):
        yield number, first, document
        first += len(document[1])


def write(documents: Iterable[Document], vectors: Path, out: Path) -> None:
    """One folder for each shard; each is read back once, to prove that its form is still the builder's."""
    with vectors.open("rb") as source:
        for shard, group in groupby(with_rows(documents), lambda each: each[0] // DOCUMENTS_PER_SHARD):
            folder = out / f"{shard:04}"
            folder.mkdir(parents=True)
            made = [indexed(number, first, name, texts) for number, first, (name, texts) in group]
            records = [msgspec.msgpack.encode(document) for document in made]
            (folder / PASSAGES).write_bytes(b"".join(len(each).to_bytes(4, "little") + each for each in records))
            (folder / VECTORS).write_bytes(source.read(WIDTH * sum(len(each.passages) for each in made)))
            if read(folder) != made:
                raise SystemExit(f"{folder} cannot be read back: the form of passages between steps has changed")


def main(vectors: str, out: str, texts: str = "") -> None:
    """Write all shards."""
    path = Path(vectors)
    given: Iterable[Document] = json.loads(Path(texts).read_text()) if texts else blank(path.stat().st_size // WIDTH)
    write(given, path, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
