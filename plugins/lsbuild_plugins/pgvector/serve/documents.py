"""Documents and their passages in the tables of one store: written and read inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lsbuild_plugins.pgvector.serve.schema import LOCK, Tables
from lsbuild_plugins.pgvector.serve.values import Vector, attributes, attributes_json, stored, words
from lsbuild_runtime.mutable import StoredFile
from lsbuild_runtime.ports import Attribute, Passage
from lsbuild_runtime.postgres.pool import Connection

_FILE = "file_id, filename, sha256, bytes, attributes::text, passages, created_at"
_PASSAGE = "chunk_id, text, heading, prefix, start_at, end_at, line_start, line_end"


def own(connection: Connection, tables: Tables, file_id: str) -> None:
    """Wait until no one else writes this document or loads a seed; from now on no seed touches it again."""
    document = "SELECT pg_advisory_xact_lock_shared(%s, %s), pg_advisory_xact_lock(%s, hashtext(%s))"
    connection.execute(document, (LOCK, tables.store, tables.store, file_id))
    connection.execute(
        f"WITH taken AS (UPDATE {tables.files} SET compiled = '' WHERE file_id = %s AND compiled <> '' RETURNING file_id) "  # noqa: S608
        "INSERT INTO hidden SELECT %s, file_id FROM taken ON CONFLICT DO NOTHING",
        (file_id, tables.store),
    )


def insert(connection: Connection, tables: Tables, document: StoredFile, compiled: str = "") -> int:
    """A document's row, made or left as it is; returns its number."""
    row = connection.execute(
        f"INSERT INTO {tables.files} (file_id, filename, sha256, bytes, attributes, passages, created_at, compiled) "  # noqa: S608
        "VALUES (%s, %s, %s, %s, %s::jsonb, 0, %s, %s) "
        "ON CONFLICT (file_id) DO UPDATE SET file_id = excluded.file_id RETURNING id",
        (
            stored(document.file_id),
            stored(document.filename),
            document.sha256,
            document.bytes,
            attributes_json(document.attributes),
            document.created_at,
            compiled,
        ),
    ).fetchone()
    assert row is not None  # noqa: S101 - RETURNING gives the row
    return int(row[0])


def refresh(connection: Connection, tables: Tables, file: int, document: StoredFile, compiled: str) -> None:
    """Bring a compiled document's row up to date; attributes that a client set stay."""
    connection.execute(
        f"UPDATE {tables.files} SET filename = %s, sha256 = %s, bytes = %s, compiled = %s, "  # noqa: S608
        "attributes = CASE WHEN relabelled THEN attributes ELSE %s::jsonb END WHERE id = %s",
        (
            stored(document.filename),
            document.sha256,
            document.bytes,
            compiled,
            attributes_json(document.attributes),
            file,
        ),
    )


def relabel(connection: Connection, tables: Tables, file_id: str, labels: Mapping[str, Attribute]) -> bool:
    """Replace a document's attributes; False when there is none."""
    statement = f"UPDATE {tables.files} SET attributes = %s::jsonb, relabelled = true WHERE file_id = %s"  # noqa: S608
    return connection.execute(statement, (attributes_json(labels), file_id)).rowcount == 1


def fill(
    connection: Connection,
    tables: Tables,
    file: int,
    passages: Sequence[Passage],
    vectors: Sequence[bytes],
    language: str,
) -> None:
    """Store passages of the document number ``file``, in place of those with the same ``chunk_id``."""
    columns = "file, chunk_id, text, heading, prefix, start_at, end_at, line_start, line_end, words, embedding"
    kept = ", ".join(f"{name} = excluded.{name}" for name in columns.split(", ")[2:])
    statement = (
        f"INSERT INTO {tables.passages} ({columns}) "  # noqa: S608
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, to_tsvector(%s::regconfig, %s), %s) "
        f"ON CONFLICT (file, chunk_id) DO UPDATE SET {kept}"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            statement,
            (
                (file, *_columns(passage), language, words(passage.heading, passage.text), Vector(vector))
                for passage, vector in zip(passages, vectors, strict=True)
            ),
        )
    count = f"UPDATE {tables.files} f SET passages = (SELECT count(*) FROM {tables.passages} p WHERE p.file = f.id) WHERE id = %s"  # noqa: S608
    connection.execute(count, (file,))


def delete(connection: Connection, tables: Tables, file_id: str) -> bool:
    """Forget a document and its passages; False when there is none."""
    done = connection.execute(f"DELETE FROM {tables.files} WHERE file_id = %s", (file_id,))  # noqa: S608
    return done.rowcount == 1


def files(connection: Connection, tables: Tables) -> list[StoredFile]:
    """All documents, oldest first."""
    rows = connection.execute(f"SELECT {_FILE} FROM {tables.files} ORDER BY created_at, file_id")  # noqa: S608
    return [_stored_file(row) for row in rows]


def file(connection: Connection, tables: Tables, file_id: str) -> StoredFile | None:
    """One document, or None."""
    row = connection.execute(f"SELECT {_FILE} FROM {tables.files} WHERE file_id = %s", (file_id,)).fetchone()  # noqa: S608
    return _stored_file(row) if row else None


def passages(connection: Connection, tables: Tables, file_id: str) -> list[Passage]:
    """A document's passages in the order in which they were stored."""
    columns = ", ".join(f"p.{name}" for name in _PASSAGE.split(", "))
    rows = connection.execute(
        f"SELECT {columns} FROM {tables.passages} p JOIN {tables.files} f ON f.id = p.file WHERE f.file_id = %s ORDER BY p.id",  # noqa: S608
        (file_id,),
    )
    return [Passage(*row) for row in rows]


def _columns(passage: Passage) -> tuple[Any, ...]:
    texts = (stored(passage.chunk_id), stored(passage.text), stored(passage.heading), stored(passage.prefix))
    return (*texts, passage.start, passage.end, passage.line_start, passage.line_end)


def _stored_file(row: tuple[Any, ...]) -> StoredFile:
    file_id, filename, sha256, size, json, count, created_at = row
    return StoredFile(
        file_id=file_id,
        filename=filename,
        sha256=sha256,
        bytes=size,
        attributes=attributes(json),
        passages=count,
        created_at=created_at,
    )
