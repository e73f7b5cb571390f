"""Writes vectors as the passages step would have: ``shards VECTORS OUT [TEXTS]``; nothing here is measured.

TEXTS is JSON, ``[[name, [text, ...]], ...]``, in the order of the vectors; without it documents of 100 empty passages stand
for them. Documents carry the attribute ``part`` (0 to 3).
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
from lsbuild_runtime.ports import Passage

PASSAGES_PER_DOCUMENT = 100
DOCUMENTS_PER_SHARD = 40
PARTS = 4

Document = tuple[str, list[str]]


def blank(vectors: int) -> Iterator[Document]:
    """Documents without words for so many vectors."""
    for number, first in enumerate(range(0, vectors, PASSAGES_PER_DOCUMENT)):
        yield f"{number:06}.txt", [""] * min(PASSAGES_PER_DOCUMENT, vectors - first)


def indexed(number: int, name: str, texts: list[str]) -> Indexed:
    """A document as it is kept between the steps."""
    passages, start = [], 0
    for line, text in enumerate(texts, start=1):
        passages.append(Passage(f"{number}-{line}", text, name, "", start, start + len(text), line, line))
        start += len(text) + 1
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return Indexed(name, sha256, start, {"part": number % PARTS}, passages)


def write(documents: Iterable[Document], vectors: Path, out: Path) -> None:
    """One folder for each shard; each is read back once, to prove that its form is still the builder's."""
    with vectors.open("rb") as source:
        for shard, group in groupby(enumerate(documents), lambda pair: pair[0] // DOCUMENTS_PER_SHARD):
            folder = out / f"{shard:04}"
            folder.mkdir(parents=True)
            made = [indexed(number, name, texts) for number, (name, texts) in group]
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
