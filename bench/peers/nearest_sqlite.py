"""sqlite-vec as it is used everywhere: one vec0 table of float32 and a flat scan. ``nearest_sqlite PROGRAM ...``.

Programs: ``build VECTORS FILE``; ``reused ...`` keeps one connection; ``each ...`` makes a connection and loads sqlite-vec
for every query, as Llama Stack's and OGX's provider does. Through apsw, since many Pythons' own sqlite3 loads no extensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import apsw

from bench.nearest import DIMENSIONS, WIDTH, K, command, main

_QUERY = "SELECT rowid FROM vec WHERE embedding MATCH ? AND k = ? ORDER BY distance"


def connect(path: str) -> apsw.Connection:
    """A connection with sqlite-vec loaded."""
    connection = apsw.Connection(path)
    spec = find_spec("sqlite_vec")
    assert spec is not None
    assert spec.origin is not None
    connection.enable_load_extension(True)
    connection.load_extension(str(Path(spec.origin).with_name("vec0")))
    return connection


def build(arguments: list[str]) -> None:
    """The table of OGX's provider: the vector, and an id as text."""
    source, out = arguments
    connection = connect(out)
    with connection:
        connection.execute(f"CREATE VIRTUAL TABLE vec USING vec0(embedding FLOAT[{DIMENSIONS}], id TEXT)")
        connection.executemany("INSERT INTO vec (rowid, embedding, id) VALUES (?, ?, ?)", _rows(Path(source)))
    connection.close()


def _rows(path: Path) -> Iterator[tuple[int, bytes, str]]:
    with path.open("rb") as file:
        row = 0
        while vector := file.read(WIDTH):
            yield row, vector, str(row)
            row += 1


def find(connection: apsw.Connection, vector: bytes) -> list[int]:
    """Rows of the nearest vectors."""
    return [row for (row,) in connection.execute(_QUERY, (vector, K))]


class Reused:
    """One connection for all queries."""

    def __init__(self, path: str) -> None:
        self._connection = connect(path)

    def search(self, vector: bytes, effort: int) -> list[int]:  # noqa: ARG002 - a scan has no knob
        """See `bench.nearest.Engine`."""
        return find(self._connection, vector)


class Each:
    """One connection for each query."""

    def __init__(self, path: str) -> None:
        self._path = path

    def search(self, vector: bytes, effort: int) -> list[int]:  # noqa: ARG002 - a scan has no knob
        """See `bench.nearest.Engine`."""
        connection = connect(self._path)
        try:
            return find(connection, vector)
        finally:
            connection.close()


if __name__ == "__main__":
    main({"build": build, "reused": lambda rest: command(rest, Reused), "each": lambda rest: command(rest, Each)})
