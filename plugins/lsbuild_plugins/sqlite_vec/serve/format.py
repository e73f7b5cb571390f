"""The format of a compiled index, one SQLite file; the serve half reads it, the compile half writes it."""

from __future__ import annotations

from array import array
from operator import sub
from typing import Literal

from msgspec import Struct

FILE_NAME = "index.db"

RESIDUAL = 254
"""A rounding error is at most a half, so it fits an int8 in steps of 1/254."""

APPLICATION_ID = 0x6C737662
"""SQLite's application_id of an index: the letters ``lsvb``."""

SCHEMA = 3
"""SQLite's user_version; raised whenever an older serve half could misread a newer index."""

TABLES = """
CREATE TABLE meta (value TEXT NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY, file_id TEXT NOT NULL UNIQUE, filename TEXT NOT NULL UNIQUE, sha256 BLOB NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE TABLE attributes (
    file INTEGER NOT NULL REFERENCES files, key TEXT NOT NULL, type TEXT NOT NULL, value, PRIMARY KEY (file, key)
) WITHOUT ROWID;
CREATE INDEX attributes_value ON attributes (key, type, value);
CREATE TABLE sections (
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES files, heading TEXT NOT NULL, prefix TEXT NOT NULL
);
CREATE INDEX sections_file ON sections (file);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY, section INTEGER NOT NULL REFERENCES sections, text TEXT NOT NULL, start INTEGER NOT NULL,
    length INTEGER NOT NULL, line INTEGER NOT NULL, lines INTEGER NOT NULL
);
CREATE INDEX passages_section ON passages (section);
CREATE TABLE named (id INTEGER PRIMARY KEY REFERENCES passages, chunk_id TEXT NOT NULL);
CREATE VIEW chunks AS SELECT
    p.id AS id, (SELECT n.chunk_id FROM named n WHERE n.id = p.id) AS chunk_id, s.file AS file, s.heading AS heading,
    s.prefix AS prefix, p.text AS text, p.start AS start, p.start + p.length AS end, p.line AS line_start,
    p.line + p.lines AS line_end
FROM passages p JOIN sections s ON s.id = p.section;
CREATE VIRTUAL TABLE words USING fts5 (text, content='', tokenize='porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE word USING fts5vocab (words, row);
"""
"""``meta`` holds one row: Meta as JSON. ``attributes.type`` is string, number or boolean. ``words`` and ``vectors`` have
the rowids of ``passages``; ``words`` keeps no text of its own, but positions, since bm25 without them is always 0. Heading and
text are one column there: bm25 is the same, and a second column costs two bytes for each word of each passage.

Queries read ``chunks``. Behind it a heading is written once for its passages, ends are lengths, and ``named`` has a
``chunk_id`` only where it is not `lsbuild_runtime.ports.passage_id` of its row.
"""

LISTS = "CREATE TABLE lists (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, centroid BLOB NOT NULL);"
CODES = """
CREATE TABLE codes (place INTEGER PRIMARY KEY, file INTEGER NOT NULL, embedding BLOB NOT NULL);
CREATE VIEW placed AS SELECT place, place AS id, file, embedding FROM codes;
"""
"""What a clustered index has instead of ``vectors``: a list is a run of rows of ``placed``, so reading one is reading
neighbouring pages. ``id`` and ``file`` are those of ``chunks``, here as well, so that a filter need not read texts.
Vectors and centroids are int8. Passages of a compiled index are numbered in the order of the lists, so ``place`` is the
``id``, and what a search finds lies together; a generation keeps its numbers, and ``placed`` is a table there.

Ordinary tables, not a vec0 table with a partition key: measured at the same recall, they take less time (a partition costs
0.1 to 0.15 ms to open, a scan of ``placed`` nothing), a tenth less space, and no index on a table that is sqlite-vec's own.
"""

UNROUNDED = "CREATE TABLE unrounded (place INTEGER PRIMARY KEY, embedding BLOB NOT NULL)"
"""Beside the lists of an index whose int8 vectors are too coarse for its recall: the float32 vectors of ``placed``. Few of
them are read by a search, so they cost space and hardly any time.

Not int8 of what a vector differs from its list's centroid: that is as long as 0.84 of the vector, in text and in clusters, so
its error is hardly smaller (best possible recall 0.976 where int8 of the vector has 0.971, 0.995 where it has 0.996)."""

TOKENIZER = ("porter", ("unicode61", "remove_diacritics", "2"))
"""The tokenizer of ``words``, as apsw names it."""

Encoding = Literal["float32", "int8"]

Scan = Literal["l1", "l2"]
"""L1 of int8 vectors takes a third of the time of L2 (the wheel's L2 is not vectorised on x86), and ranks nearly as well
where variance is spread over all components; which one serves an index is decided by its held-out queries."""


class Meta(Struct, frozen=True, kw_only=True):
    """What an index is. ``embedding`` names the model; ``scale`` turns a component into an int8; ``bytes`` sums the files.

    ``lists`` is 0 for an exact index. ``probes`` lists are read by a search for ten passages. ``scan`` is the distance that
    ranks the rows of those lists; the best of them are ranked again by L2, the best of these by the unrounded query; with
    ``unrounded`` all of the best by float32 vectors. ``recall`` is recall@10 against exact search on ``queries`` held-out
    queries, ``curve`` pairs of (probes, recall).
    """

    embedding: str
    dimensions: int
    encoding: Encoding
    scale: float
    files: int
    chunks: int
    bytes: int
    lists: int = 0
    probes: int = 0
    unrounded: bool = False
    scan: Scan = "l2"
    recall: float = 1.0
    queries: int = 0
    curve: tuple[tuple[int, float], ...] = ()


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
    return _int8(list(map(round, map(scale.__mul__, array("f", vector))))).tobytes()


def residual(vector: bytes, code: bytes, scale: float) -> bytes:
    """What rounding ``vector`` to the int8 vector ``code`` lost, as int8: RESIDUAL steps to one of ``code``."""
    lost = map(sub, map(scale.__mul__, array("f", vector)), array("b", code))
    return _int8(list(map(round, map(float(RESIDUAL).__mul__, lost)))).tobytes()


def _int8(values: list[int]) -> array[int]:
    if min(values) < -127 or max(values) > 127:
        values = [max(-127, min(127, value)) for value in values]
    return array("b", values)
