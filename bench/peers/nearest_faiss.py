"""faiss on the CPU: IVF with 8-bit vectors, and HNSW. ``nearest_faiss PROGRAM ...``.

Programs: ``build-ivf VECTORS FILE``, ``build-hnsw VECTORS FILE``, and ``ivf ...``, ``hnsw ...`` that search them. Building
uses all cores, a query one.
"""

from __future__ import annotations

import math
from typing import Any

import faiss  # type: ignore[import-not-found]
import numpy as np
from numpy.typing import NDArray

from bench.nearest import DIMENSIONS, K, command, main

HNSW_LINKS = 32
"""faiss's own default."""


def read(path: str) -> NDArray[np.float32]:
    """All vectors of a file."""
    return np.fromfile(path, "<f4").reshape(-1, DIMENSIONS)


def lists(count: int) -> int:
    """Twice the root of ``count``, as a power of two: training stays shorter than adding."""
    return int(1 << round(math.log2(2 * math.sqrt(count))))


def build_ivf(arguments: list[str]) -> None:
    """Inverted lists of 8-bit scalars, trained by faiss's own defaults."""
    source, out = arguments
    vectors = read(source)
    index = faiss.index_factory(DIMENSIONS, f"IVF{lists(len(vectors))},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, out)


def build_hnsw(arguments: list[str]) -> None:
    """A graph over float32 vectors, built by faiss's own defaults."""
    source, out = arguments
    index = faiss.IndexHNSWFlat(DIMENSIONS, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.add(read(source))
    faiss.write_index(index, out)


class Ivf:
    """The lists are mapped, not read; effort is nprobe."""

    def __init__(self, path: str) -> None:
        faiss.omp_set_num_threads(1)
        self._index = faiss.read_index(path, faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)

    def search(self, vector: bytes, effort: int) -> Any:
        """See `bench.nearest.Engine`."""
        self._index.nprobe = effort
        return self._index.search(np.frombuffer(vector, "<f4")[None], K)[1][0]


class Hnsw:
    """The graph is read into memory; effort is efSearch."""

    def __init__(self, path: str) -> None:
        faiss.omp_set_num_threads(1)
        self._index = faiss.read_index(path)

    def search(self, vector: bytes, effort: int) -> Any:
        """See `bench.nearest.Engine`."""
        self._index.hnsw.efSearch = effort
        return self._index.search(np.frombuffer(vector, "<f4")[None], K)[1][0]


if __name__ == "__main__":
    main(
        {
            "build-ivf": build_ivf,
            "build-hnsw": build_hnsw,
            "ivf": lambda rest: command(rest, Ivf),
            "hnsw": lambda rest: command(rest, Hnsw),
        }
    )
