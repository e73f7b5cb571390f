"""What one writes by hand for search by words, and by both: default FTS5, sqlite-vec flat, rank fusion. ``text_sqlite PROGRAM``.

Programs: ``build TEXTS VECTORS FILE``; ``serve FILE QUERIES QUESTIONS`` answers as `bench.nearest.timed` does, with ``mode``
(keyword or hybrid) and ``filtered`` besides. Filters are json_extract over a column of metadata, as in OGX's provider: of a
search by meaning only what is among its first ones and passes the filter is left.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.lines import serve
from bench.nearest import DIMENSIONS, WIDTH, K, main, timed
from bench.peers.nearest_sqlite import connect

PARTS = 4
DEPTH = 50
"""How many of each ranking are fused."""
_RRF = 60
_TEXT = "SELECT c.id, c.text FROM {} JOIN chunks c ON c.id = {} WHERE {}"
_FILTER = " AND json_extract(c.metadata, '$.part') = 1"
_WORDS = _TEXT.format("fts", "fts.rowid", "fts MATCH ?")
_NEAR = _TEXT.format("(SELECT rowid, distance FROM vec WHERE embedding MATCH ? AND k = ?) v", "v.rowid", "1")


def build(arguments: list[str]) -> None:
    """One row for each passage, its words in a default FTS5 table, its vector in a flat one."""
    texts, vectors, out = arguments
    connection = connect(out)
    with connection, Path(vectors).open("rb") as source:
        connection.execute("CREATE TABLE chunks (id INTEGER PRIMARY KEY, text TEXT, metadata TEXT)")
        connection.execute("CREATE VIRTUAL TABLE fts USING fts5(text)")
        connection.execute(f"CREATE VIRTUAL TABLE vec USING vec0(embedding FLOAT[{DIMENSIONS}])")
        row = 0
        for number, (name, passages) in enumerate(json.loads(Path(texts).read_text())):
            metadata = json.dumps({"filename": name, "part": number % PARTS})
            for text in passages:
                connection.execute("INSERT INTO chunks VALUES (?, ?, ?)", (row, text, metadata))
                connection.execute("INSERT INTO fts (rowid, text) VALUES (?, ?)", (row, text))
                connection.execute("INSERT INTO vec (rowid, embedding) VALUES (?, ?)", (row, source.read(WIDTH)))
                row += 1
    connection.close()


class Store:
    """One connection; a search returns rows with their texts."""

    def __init__(self, path: str) -> None:
        self._connection = connect(path)

    def keyword(self, question: str, vector: bytes, condition: str) -> list[tuple[int, str]]:  # noqa: ARG002
        """The words of the question joined by OR, ranked by bm25."""
        return self._worded(question, condition, K)

    def hybrid(self, question: str, vector: bytes, condition: str) -> list[tuple[int, str]]:
        """Both rankings, fused."""
        near = self._rows(_NEAR + condition + " ORDER BY v.distance", (vector, DEPTH))
        scores: dict[int, float] = {}
        texts: dict[int, str] = {}
        for ranking in (near, self._worded(question, condition, DEPTH)):
            for rank, (row, text) in enumerate(ranking, start=1):
                scores[row] = scores.get(row, 0.0) + 1 / (_RRF + rank)
                texts[row] = text
        best = sorted(scores, key=lambda row: -scores[row])[:K]
        return [(row, texts[row]) for row in best]

    def _worded(self, question: str, condition: str, depth: int) -> list[tuple[int, str]]:
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
        return self._rows(_WORDS + condition + " ORDER BY rank LIMIT ?", (words, depth))

    def _rows(self, sql: str, values: tuple[Any, ...]) -> list[tuple[int, str]]:
        return list(self._connection.execute(sql, values))


def stay(arguments: list[str]) -> None:
    """Answer requests until standard input ends."""
    path, queries, questions = arguments
    store, asked = Store(path), json.loads(Path(questions).read_text())

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        search = {"keyword": store.keyword, "hybrid": store.hybrid}[request["mode"]]
        condition = _FILTER if request["filtered"] else ""
        ahead = iter(asked[request["first"] :])
        return timed(lambda vector: [row for row, _ in search(next(ahead), vector, condition)], Path(queries), request)

    serve(answer)


if __name__ == "__main__":
    main({"build": build, "serve": stay})
