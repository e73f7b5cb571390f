"""The int8 vectors of a corpus in a file beside the index while it is built: read by block and by row, never held."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsbuild_plugins.sqlite_vec.compile.cluster import Codes, encode
from lsbuild_plugins.sqlite_vec.compile.corpus import BLOCK, Corpus


class CodeFile:
    """int8 [rows, dimensions] in the order of the corpus."""

    def __init__(self, path: Path, corpus: Corpus, factor: float) -> None:
        self.dimensions = corpus.dimensions
        self.rows = corpus.chunks
        self.scale = factor
        self._file = path.open("w+b", buffering=0)
        for _, block in corpus.blocks():
            self._file.write(encode(block, factor).tobytes())

    def close(self) -> None:
        """Close the file; whoever named it removes it."""
        self._file.close()

    def blocks(self) -> Iterator[Codes]:
        """All rows in order, at most BLOCK at a time."""
        for start in range(0, self.rows, BLOCK):
            count = min(BLOCK, self.rows - start)
            data = os.pread(self._file.fileno(), count * self.dimensions, start * self.dimensions)
            yield np.frombuffer(data, np.int8).reshape(count, self.dimensions)

    def row(self, row: int) -> bytes:
        """One vector."""
        return os.pread(self._file.fileno(), self.dimensions, row * self.dimensions)

    def take(self, rows: NDArray[np.int64]) -> Codes:
        """Any rows, in the order asked."""
        data = b"".join(self.row(row) for row in rows.tolist())
        return np.frombuffer(data, np.int8).reshape(len(rows), self.dimensions)
