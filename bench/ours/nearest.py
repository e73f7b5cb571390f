"""Our index as `inline::sqlite-vec` searches it, without passages and ranks of words: ``nearest once|serve FILE QUERIES ...``."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.nearest import K, command
from lsbuild_plugins.sqlite_vec.serve import segment
from lsbuild_plugins.sqlite_vec.serve.connect import connect, read_meta


class Compiled:
    """How hard it searches was decided at build."""

    def __init__(self, path: str) -> None:
        self._meta = read_meta(Path(path))
        self._connection = connect(Path(path))

    def search(self, vector: bytes, effort: int) -> list[int]:  # noqa: ARG002 - the index knows its own
        """See `bench.nearest.Engine`; our rows count from 1."""
        return [row - 1 for row, _ in segment.near(self._connection, self._meta, vector, K, K, None)]


if __name__ == "__main__":
    command(sys.argv[1:], Compiled)
