"""How many candidates a search of the index has to look at, measured on the store's own vectors; it changes no document."""

from __future__ import annotations

from lsbuild_plugins.pgvector.serve.schema import INDEXED_DIMENSIONS, Tables
from lsbuild_plugins.pgvector.serve.search import is_small
from lsbuild_runtime.postgres.pool import Connection

CHOICES = (40, 60, 100, 160, 250, 400, 640, 1000)
QUERIES = 40
NEAREST = 10

_QUERIES = """WITH sample AS (SELECT embedding, row_number() OVER (ORDER BY hashint8(id), id) AS n FROM {0} ORDER BY n LIMIT {1})
SELECT (a.embedding + b.embedding)::text FROM sample a JOIN sample b ON b.n = a.n + 1 WHERE a.n % 2 = 1"""
"""Midpoints of two passages: a question is no passage, and its neighbours are harder to find than a passage's own."""

_EXACT = "SELECT id FROM (SELECT id, embedding <=> %s::vector AS d FROM {0} OFFSET 0) rows ORDER BY d, id LIMIT {1}"
_INDEXED = "SELECT id FROM {0} ORDER BY embedding <=> %s::vector LIMIT {1}"


def tune(connection: Connection, tables: Tables, min_recall: float) -> None:
    """Write the smallest of CHOICES down that finds ``min_recall`` of the NEAREST passages, 0 when none does.

    Inside the caller's transaction. A store without an index, or too small for one to be asked, is left as it is.
    """
    if tables.dimensions > INDEXED_DIMENSIONS or is_small(connection, tables):
        return
    chosen = 0 if min_recall == 1 else _smallest(connection, tables, min_recall)
    connection.execute("UPDATE stores SET ef_search = %s WHERE id = %s", (chosen, tables.store))


def _smallest(connection: Connection, tables: Tables, min_recall: float) -> int:
    rows = connection.execute(_QUERIES.format(tables.passages, 2 * QUERIES)).fetchall()
    queries = [str(row[0]) for row in rows]
    truth = [_found(connection, _EXACT, tables, query) for query in queries]
    for choice in CHOICES:
        connection.execute("SELECT set_config('hnsw.ef_search', %s, true)", (str(choice),))
        pairs = zip(queries, truth, strict=True)
        right = sum(len(near & _found(connection, _INDEXED, tables, query)) for query, near in pairs)
        if right >= min_recall * sum(map(len, truth)):
            return choice
    return 0


def _found(connection: Connection, statement: str, tables: Tables, query: str) -> set[int]:
    rows = connection.execute(statement.format(tables.passages, NEAREST), (query,)).fetchall()
    return {row[0] for row in rows}
