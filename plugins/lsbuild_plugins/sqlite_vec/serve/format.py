"""The format of a compiled index, one SQLite file; the serve half reads it, the compile half writes it."""

from __future__ import annotations

from array import array
from typing import Literal

from msgspec import Struct

FILE_NAME = "index.db"

APPLICATION_ID = 0x6C737662
"""SQLite's application_id of an index: the letters ``lsvb``."""

SCHEMA = 1
"""SQLite's user_version; raised whenever an older serve half could misread a newer index."""

TABLES = """
CREATE TABLE meta (value TEXT NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY, file_id TEXT NOT NULL UNIQUE, filename TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE TABLE attributes (
    file INTEGER NOT NULL REFERENCES files, key TEXT NOT NULL, type TEXT NOT NULL, value, PRIMARY KEY (file, key)
) WITHOUT ROWID;
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY, chunk_id TEXT NOT NULL, file INTEGER NOT NULL REFERENCES files, heading TEXT NOT NULL,
    text TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, line_start INTEGER NOT NULL, line_end INTEGER NOT NULL
);
CREATE INDEX chunks_file ON chunks (file);
CREATE VIRTUAL TABLE words USING fts5 (heading, text, content='', tokenize='porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE word USING fts5vocab (words, row);
"""
"""``meta`` holds one row: Meta as JSON. ``attributes.type`` is string, number or boolean. ``words`` and ``vectors`` have
the rowids of ``chunks``; ``words`` keeps no text of its own, but positions, since bm25 without them is always 0."""

TOKENIZER = ("porter", ("unicode61", "remove_diacritics", "2"))
"""The tokenizer of ``words``, as apsw names it."""

Encoding = Literal["float32", "int8"]


class Meta(Struct, frozen=True, kw_only=True):
    """What an index is. ``embedding`` names the model; ``scale`` turns a component into an int8; ``bytes`` sums the files."""

    embedding: str
    dimensions: int
    encoding: Encoding
    scale: float
    files: int
    chunks: int
    bytes: int


def vectors_table(dimensions: int, encoding: Encoding, chunk_size: int) -> str:
    """The DDL of the vec0 table; ``chunk_size`` vectors (a multiple of 8) lie in one blob.

    Vectors have unit length, so Euclidean distance ranks as the cosine does, in two thirds of the time.
    """
    column = "float" if encoding == "float32" else "int8"
    return (
        f"CREATE VIRTUAL TABLE vectors USING vec0("
        f"embedding {column}[{dimensions}] distance_metric=l2, chunk_size={chunk_size})"
    )


def vector_value(encoding: Encoding) -> str:
    """The SQL that makes a vector of a bound blob."""
    return "vec_f32(?)" if encoding == "float32" else "vec_int8(?)"


def encode(vector: bytes, encoding: Encoding, scale: float) -> bytes:
    """A float32 vector as the index holds it: as it is, or as int8: ``round(x * scale)``, clipped to -127..127."""
    if encoding == "float32":
        return vector
    scaled = (round(component * scale) for component in array("f", vector))
    return array("b", [max(-127, min(127, value)) for value in scaled]).tobytes()
