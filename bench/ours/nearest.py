"""Our index as `inline::sqlite-vec` searches it, without passages and ranks of words: ``nearest once|serve FILE QUERIES ...``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.nearest import K, command
from bench.ours.shards import row
from lsbuild_plugins.sqlite_vec.serve import segment
from lsbuild_plugins.sqlite_vec.serve.connect import connect, read_meta


class Compiled:
    """How hard it searches was decided at build."""

    def __init__(self, path: str) -> None:
        self._meta = read_meta(Path(path))
        self._connection = connect(Path(path))

    def search(self, vector: bytes, effort: int) -> list[int]:  # noqa: ARG002 - the index knows its own
        """See `bench.nearest.Engine`; what is found is looked up, since passages lie in an order of the index's own."""
        found = [number for number, _ in segment.near(self._connection, self._meta, vector, K, K, None)]
        places: Any = self._connection.execute(_WHERE, (json.dumps(found),)).fetchall()
        return [row(path, line) for path, line in places]


_WHERE = (
    "SELECT f.filename, c.line_start FROM json_each(?) j CROSS JOIN chunks c ON c.id = j.value "
    "CROSS JOIN files f ON f.id = c.file"
)


if __name__ == "__main__":
    command(sys.argv[1:], Compiled)
