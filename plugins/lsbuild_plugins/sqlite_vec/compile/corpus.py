"""The shards of a store as one corpus in the order of its documents; holds one document or one block in memory, never all."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lsbuild.api import StepError
from lsbuild_plugins.documents.passages import VECTORS, Indexed, stream
from lsbuild_runtime.ports import Passage

BLOCK = 8192
"""Vectors that are in memory at a time."""

Floats = NDArray[np.float32]


class _Document(NamedTuple):
    """Where a document lies: in the spool (itself without passages, then one passage after the other, each up to an offset
    of ``ends``), and its vectors in a shard's file.
    """

    path: str
    size: int
    offset: int
    ends: array[int]
    shard: int
    first: int

    @property
    def passages(self) -> int:
        return len(self.ends) - 1


class Corpus:
    """Row ``n`` is the n-th passage when documents are sorted by path: the order in which the index numbers them.

    Shards may hold any documents, so their texts are spooled to ``spool`` once and read back in order.
    """

    def __init__(self, inputs: Mapping[str, Path], spool: Path) -> None:
        self._passages = msgspec.msgpack.Decoder(Passage)
        self._files = [(folder / VECTORS).open("rb", buffering=0) for folder in inputs.values()]
        self._spool = spool.open("w+b")
        self.dimensions = 0
        found = [document for shard, folder in enumerate(inputs.values()) for document in self._add(shard, folder)]
        self._documents = sorted(found)
        self._starts: list[int] = []
        self.chunks = 0
        for document in self._documents:
            self._starts.append(self.chunks)
            self.chunks += document.passages

    def __enter__(self) -> Corpus:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in (*self._files, self._spool):
            file.close()

    @property
    def files(self) -> int:
        """Documents, those without text too."""
        return len(self._documents)

    @property
    def passages(self) -> list[int]:
        """Passages of each document, in order."""
        return [document.passages for document in self._documents]

    @property
    def bytes(self) -> int:
        """Sum of the documents' sizes."""
        return sum(document.size for document in self._documents)

    def documents(self) -> Iterator[Indexed]:
        """All documents, in order, one at a time, without their passages."""
        decoder = msgspec.msgpack.Decoder(Indexed)
        for document in self._documents:
            yield decoder.decode(_between(self._spool, document.offset, document.ends[0]))

    def passage(self, row: int) -> Passage:
        """The passage of one row."""
        number = bisect_right(self._starts, row) - 1
        ends = self._documents[number].ends
        place = row - self._starts[number]
        return self._passages.decode(_between(self._spool, ends[place], ends[place + 1]))

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """(row of the first, vectors): float32 [at most BLOCK, dimensions], in order."""
        for start in range(0, self.chunks, BLOCK):
            yield start, self.rows(start, min(start + BLOCK, self.chunks))

    def rows(self, start: int, stop: int) -> Floats:
        """Vectors of the rows start..stop, float32 [stop - start, dimensions]."""
        out = np.empty((stop - start, self.dimensions), "<f4")
        number = bisect_right(self._starts, start) - 1
        at = start
        while at < stop:
            document = self._documents[number]
            skip = at - self._starts[number]
            count = min(document.passages - skip, stop - at)
            if count > 0:
                place = (document.first + skip) * self.dimensions * 4
                self._read(document.shard, place, out[at - start : at - start + count])
                at += count
            number += 1
        return out

    def take(self, rows: NDArray[np.int64]) -> Floats:
        """Vectors of any rows, in the order asked, float32 [len(rows), dimensions]."""
        out = np.empty((len(rows), self.dimensions), "<f4")
        for number, row in enumerate(rows.tolist()):
            out[number] = self.rows(row, row + 1)
        return out

    def _read(self, shard: int, place: int, into: Floats) -> None:
        if os.preadv(self._files[shard].fileno(), [into.data.cast("B")], place) != into.nbytes:
            raise StepError("the vectors of a shard are shorter than its passages", where=self._files[shard].name)

    def _add(self, shard: int, folder: Path) -> Iterator[_Document]:
        first = 0
        encoder = msgspec.msgpack.Encoder()
        for document in stream(folder):
            offset = self._spool.tell()
            ends = array("q")
            for part in (msgspec.structs.replace(document, passages=[]), *document.passages):
                self._spool.write(encoder.encode(part))
                ends.append(self._spool.tell())
            yield _Document(document.path, document.size, offset, ends, shard, first)
            first += len(document.passages)
        self._spool.flush()
        if first:
            self._agree((folder / VECTORS).stat().st_size, first, folder)

    def _agree(self, size: int, passages: int, folder: Path) -> None:
        dimensions, rest = divmod(size, 4 * passages)
        if rest or dimensions != (self.dimensions or dimensions):
            fault = (
                f"{size} bytes of vectors for {passages} passages do not fit vectors of {self.dimensions or dimensions}"
            )
            raise StepError(fault, where=str(folder))
        self.dimensions = dimensions


def _between(file: IO[bytes], start: int, end: int) -> bytes:
    return os.pread(file.fileno(), end - start, start)
