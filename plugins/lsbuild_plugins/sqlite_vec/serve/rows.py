"""Documents in and out of one file of a store: the tables of those written while serving, and what all files are read by.

The tables hold what `segment` asks for, and more: state outlives many builds, so it has a schema number of its own.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from operator import mul
from typing import Any, NamedTuple

import apsw

from lsbuild_plugins.sqlite_vec.serve import segment
from lsbuild_plugins.sqlite_vec.serve.format import Meta
from lsbuild_runtime.mutable import StoredFile
from lsbuild_runtime.ports import Attribute, Passage, passage_id

SCHEMA = 1
"""SQLite's user_version of a file of state; raised whenever an older serve half could misread a newer one."""

TABLES = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY, file_id TEXT NOT NULL UNIQUE, filename TEXT NOT NULL, sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, version INTEGER NOT NULL
);
CREATE TABLE attributes (
    file INTEGER NOT NULL REFERENCES files, key TEXT NOT NULL, type TEXT NOT NULL, value, PRIMARY KEY (file, key)
) WITHOUT ROWID;
CREATE INDEX attributes_value ON attributes (key, type, value);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY, chunk_id TEXT NOT NULL, file INTEGER NOT NULL REFERENCES files, heading TEXT NOT NULL,
    prefix TEXT NOT NULL, text TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL,
    line_start INTEGER NOT NULL, line_end INTEGER NOT NULL
);
CREATE INDEX chunks_file ON chunks (file);
CREATE VIRTUAL TABLE words USING fts5 (heading, text, content='', tokenize='porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE word USING fts5vocab (words, row);
"""
"""``version`` is that of the change which wrote the document; ``words`` and ``vectors`` have the rowids of ``chunks``."""

VECTORS_PER_BLOB = 64
"""A new blob is written whole: 64 vectors of 384 float32 are 98 KB, and 16 vectors made a commit take twice as long."""


class Counts(NamedTuple):
    """Documents, their passages and their sizes."""

    files: int
    chunks: int
    bytes: int


class Layout(NamedTuple):
    """SQL of what a compiled index lacks or writes otherwise."""

    created_at: str
    sha256: str


COMPILED = Layout("0", "lower(hex(f.sha256))")
WRITTEN = Layout("f.created_at", "f.sha256")


def make(db: apsw.Connection, dimensions: int) -> None:
    """The tables, empty."""
    db.execute(TABLES)
    db.execute(_vectors_table(dimensions))


def empty(db: apsw.Connection, dimensions: int) -> None:
    """Remove every document. Dropping a table of vectors is many times faster than deleting its rows."""
    db.execute("DROP TABLE vectors; DELETE FROM chunks; DELETE FROM attributes; DELETE FROM files")
    db.execute("INSERT INTO words (words) VALUES ('delete-all')")
    db.execute(_vectors_table(dimensions))


def _vectors_table(dimensions: int) -> str:
    return (
        f"CREATE VIRTUAL TABLE vectors USING vec0("
        f"embedding float[{dimensions}] distance_metric=l2, chunk_size={VECTORS_PER_BLOB})"
    )


def meta(embedding: str, dimensions: int, held: Counts) -> Meta:
    """What `segment` has to know of a file with these tables: it is exact."""
    return Meta(embedding=embedding, dimensions=dimensions, encoding="float32", scale=1.0, **held._asdict())


def counts(db: apsw.Connection) -> Counts:
    """What a file holds."""
    found: Any = db.execute(
        "SELECT count(*), (SELECT count(*) FROM chunks), coalesce(sum(bytes), 0) FROM files"
    ).fetchone()
    return Counts(*found)


def insert(db: apsw.Connection, document: StoredFile, version: int) -> int:
    """Insert a document without passages; returns its row."""
    values = (document.file_id, document.filename, document.sha256, document.bytes, document.created_at, version)
    db.execute("INSERT INTO files VALUES (NULL, ?, ?, ?, ?, ?, ?)", values)
    row = db.last_insert_rowid()
    attributes(db, row, document.attributes)
    return row


def attributes(db: apsw.Connection, row: int, given: Mapping[str, Attribute]) -> None:
    """Replace a document's attributes."""
    db.execute("DELETE FROM attributes WHERE file = ?", (row,))
    rows = [(row, key, *typed(value)) for key, value in given.items()]
    db.executemany("INSERT INTO attributes VALUES (?, ?, ?, ?)", rows)


def append(db: apsw.Connection, row: int, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
    """Add passages to a document."""
    for passage, vector in zip(passages, vectors, strict=True):
        place = (passage.start, passage.end, passage.line_start, passage.line_end)
        values = (passage.chunk_id, row, passage.heading, passage.prefix, passage.text, *place)
        db.execute("INSERT INTO chunks VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        chunk = db.last_insert_rowid()
        words = (chunk, passage.heading, passage.text)
        db.execute("INSERT INTO words (rowid, heading, text) VALUES (?, ?, ?)", words)
        db.execute("INSERT INTO vectors (rowid, embedding) VALUES (?, vec_f32(?))", (chunk, vector))


def delete(db: apsw.Connection, row: int) -> None:
    """Delete a document with its passages."""
    delete_passages(db, row, None)
    db.execute("DELETE FROM attributes WHERE file = ?", (row,))
    db.execute("DELETE FROM files WHERE id = ?", (row,))


def delete_passages(db: apsw.Connection, row: int, chunk_ids: Sequence[str] | None) -> None:
    """Delete a document's passages: those of ``chunk_ids``, or all. FTS5 has to be told the words it shall forget."""
    found = db.execute("SELECT id, chunk_id, heading, text FROM chunks WHERE file = ?", (row,)).fetchall()
    for chunk, chunk_id, heading, text in found:
        if chunk_ids is None or chunk_id in chunk_ids:
            forget = (chunk, heading, text)
            db.execute("INSERT INTO words (words, rowid, heading, text) VALUES ('delete', ?, ?, ?)", forget)
            db.execute("DELETE FROM vectors WHERE rowid = ?", (chunk,))
            db.execute("DELETE FROM chunks WHERE id = ?", (chunk,))


def documents(db: apsw.Connection, layout: Layout, where: str, *values: Any) -> Iterator[tuple[int, StoredFile]]:
    """The documents of a file that match a condition over ``files f``, with their rows."""
    sql = (
        f"SELECT f.id, f.file_id, f.filename, {layout.sha256}, f.bytes, {layout.created_at}, "  # noqa: S608
        f"(SELECT count(*) FROM chunks c WHERE c.file = f.id) FROM files f WHERE {where} ORDER BY f.id"
    )
    found: Any = db.execute(sql, values).fetchall()
    for row, file_id, filename, sha256, size, created_at, passages in found:
        yield (
            row,
            StoredFile(
                file_id=file_id,
                filename=filename,
                sha256=sha256,
                bytes=size,
                attributes=segment.attributes(db, row),
                passages=passages,
                created_at=created_at,
            ),
        )


def passages(db: apsw.Connection, row: int) -> Iterator[tuple[int, Passage]]:
    """A document's passages in order, with their rows."""
    sql = (
        "SELECT c.id, c.chunk_id, f.filename, c.text, c.heading, c.prefix, c.start, c.end, c.line_start, c.line_end "
        "FROM files f JOIN chunks c ON c.file = f.id WHERE f.id = ? ORDER BY c.start, c.id"
    )
    found: Any = db.execute(sql, (row,)).fetchall()
    for chunk, known, path, text, heading, prefix, start, end, *lines in found:
        chunk_id = known or passage_id(path, start, end, text)
        yield chunk, Passage(chunk_id, text, heading, prefix, start, end, *lines)


def vector(db: apsw.Connection, layout: Layout, meta: Meta, chunk: int) -> bytes:
    """A passage's vector as float32; one that a compiled index holds in bytes is stretched to unit length again."""
    table = "placed WHERE id" if layout is COMPILED and meta.lists else "vectors WHERE rowid"
    found: Any = db.execute(f"SELECT embedding FROM {table} = ?", (chunk,)).get  # noqa: S608
    if found is None:
        raise apsw.CorruptError(f"vector {chunk} is missing")
    if layout is WRITTEN or meta.encoding == "float32":
        return bytes(found)
    components = array("b", found)
    length = math.sqrt(sum(map(mul, components, components))) or 1.0
    return array("f", [component / length for component in components]).tobytes()


def content(db: apsw.Connection, layout: Layout, meta: Meta, row: int) -> tuple[list[Passage], list[bytes]]:
    """A document's passages in order, with their vectors."""
    found = list(passages(db, row))
    return [passage for _, passage in found], [vector(db, layout, meta, chunk) for chunk, _ in found]


def typed(value: Attribute) -> tuple[str, str | int | float]:
    """An attribute as (type, value) of the ``attributes`` table."""
    if isinstance(value, bool):
        return "boolean", int(value)
    return ("string" if isinstance(value, str) else "number"), value
