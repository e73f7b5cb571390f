"""How the first instance of a fleet brings a build's compiled documents into the database; the others find them there."""

from __future__ import annotations

from pathlib import Path

from lsbuild_plugins.pgvector.serve import documents, schema, seed
from lsbuild_plugins.pgvector.serve.schema import Tables
from lsbuild_plugins.pgvector.serve.settings import Settings
from lsbuild_plugins.pgvector.serve.tune import tune
from lsbuild_runtime.postgres.pool import Connection


def load(connection: Connection, tables: Tables, folder: Path, settings: Settings) -> None:
    """Make the compiled documents of a store those of the seed, in one transaction; whoever is first, does it.

    A document that did not change stays as it lies; one that a client removed or replaced is left alone; attributes
    that a client set stay.
    """
    header = seed.read_header(folder)
    if _loaded(connection, tables) == header.digest:
        return
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")
        schema.lock(connection, tables.store)
        if _loaded(connection, tables) == header.digest:
            return
        known: dict[str, str] = dict(connection.execute(f"SELECT file_id, compiled FROM {tables.files}").fetchall())  # noqa: S608
        hidden = {row[0] for row in connection.execute("SELECT file_id FROM hidden WHERE store = %s", (tables.store,))}
        names = set()
        for digest, document in seed.read(folder):
            name = document.file.file_id
            names.add(name)
            if name not in hidden and known.get(name) not in ("", digest):
                _replace(connection, tables, document, digest, settings.language)
        for name in (name for name, compiled in known.items() if compiled and name not in names):
            documents.delete(connection, tables, name)
        connection.execute("UPDATE stores SET seed = %s WHERE id = %s", (header.digest, tables.store))
        schema.index(connection, tables, settings)
        connection.execute(f"ANALYZE {tables.files}, {tables.passages}")
        if not settings.ef_search and settings.index == "hnsw":
            tune(connection, tables, settings.min_recall)


def _replace(connection: Connection, tables: Tables, document: seed.Document, digest: str, language: str) -> None:
    size = tables.dimensions * 4
    vectors = [document.vectors[at : at + size] for at in range(0, len(document.vectors), size)]
    row = documents.insert(connection, tables, document.file, digest)
    connection.execute(f"DELETE FROM {tables.passages} WHERE file = %s", (row,))  # noqa: S608
    documents.refresh(connection, tables, row, document.file, digest)
    documents.fill(connection, tables, row, document.passages, vectors, language)


def _loaded(connection: Connection, tables: Tables) -> str:
    row = connection.execute("SELECT seed FROM stores WHERE id = %s", (tables.store,)).fetchone()
    return str(row[0]) if row else ""
