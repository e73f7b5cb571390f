"""Writes the tables of an index, one document or one vector at a time; decides nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from lsbuild_plugins.sqlite_vec.compile.cluster import Codes, encode
from lsbuild_plugins.sqlite_vec.compile.codes import CodeFile
from lsbuild_plugins.sqlite_vec.compile.corpus import BLOCK, Corpus
from lsbuild_plugins.sqlite_vec.serve.format import LISTS, UNROUNDED, Meta, vector_value, vectors_table
from lsbuild_runtime.ports import Attribute

VECTORS_PER_BLOB = 256


def texts(db: apsw.Connection, corpus: Corpus, progress: Callable[[int, int, str], None]) -> None:
    """Documents, their attributes, passages and words; row ids follow the order of the corpus."""
    row = 0
    for number, document in enumerate(corpus.documents(), start=1):
        progress(number, corpus.files, document.path)
        file = (number, document.file_id, document.path, document.sha256, document.size)
        db.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", file)
        pairs = [(number, key, *typed(value)) for key, value in sorted(document.attributes.items())]
        db.executemany("INSERT INTO attributes VALUES (?, ?, ?, ?)", pairs)
        for passage in document.passages:
            row += 1
            place = (passage.start, passage.end, passage.line_start, passage.line_end)
            values = (row, passage.chunk_id, number, passage.heading, passage.text, *place)
            db.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            words = (row, passage.heading, passage.text)
            db.execute("INSERT INTO words (rowid, heading, text) VALUES (?, ?, ?)", words)
    db.execute("INSERT INTO words (words) VALUES ('optimize')")


def flat(db: apsw.Connection, corpus: Corpus, meta: Meta) -> None:
    """All vectors in one vec0 table."""
    blob = min(VECTORS_PER_BLOB, math.ceil(meta.chunks / 8) * 8)
    db.execute(vectors_table(meta.dimensions, meta.encoding, blob))
    statement = f"INSERT INTO vectors (rowid, embedding) VALUES (?, {vector_value(meta.encoding)})"  # noqa: S608
    for start, block in corpus.blocks():
        values = block if meta.encoding == "float32" else encode(block, meta.scale)
        db.executemany(statement, ((start + n, v.tobytes()) for n, v in enumerate(values, start=1)))


def clustered(
    db: apsw.Connection, corpus: Corpus, codes: CodeFile, centroids: Codes, nearest: NDArray[np.int64]
) -> int:
    """Vectors in the order of their lists; lists that no vector is nearest to are left out. Returns how many are left."""
    db.execute(LISTS)
    sizes = np.bincount(nearest, minlength=len(centroids)).tolist()
    order = np.argsort(nearest, kind="stable").tolist()
    files = np.repeat(np.arange(1, corpus.files + 1), corpus.passages)
    rows = ((place, row + 1, int(files[row]), codes.row(row)) for place, row in enumerate(order, start=1))
    db.executemany("INSERT INTO placed VALUES (?, ?, ?, ?)", rows)
    kept = list(_lists(sizes, centroids))
    db.executemany("INSERT INTO lists VALUES (?, ?, ?, ?)", kept)
    db.execute("CREATE UNIQUE INDEX placed_id ON placed (id)")
    return len(kept)


def unrounded(db: apsw.Connection, corpus: Corpus) -> None:
    """The float32 vectors of all rows of ``placed``, in its order."""
    db.execute(UNROUNDED)
    places: Any = db.execute("SELECT id - 1 FROM placed ORDER BY place").fetchall()
    order = np.array(places, np.int64)[:, 0]
    for start in range(0, len(order), BLOCK):
        block = corpus.take(order[start : start + BLOCK])
        db.executemany(
            "INSERT INTO unrounded VALUES (?, ?)", ((start + n, v.tobytes()) for n, v in enumerate(block, 1))
        )


def _lists(sizes: list[int], centroids: Codes) -> Iterator[tuple[int, int, int, bytes]]:
    number = last = 0
    for size, centroid in zip(sizes, centroids, strict=True):
        if size:
            number += 1
            yield number, last + 1, last + size, centroid.tobytes()
            last += size


def typed(value: Attribute) -> tuple[str, str | int | float]:
    """An attribute as (type, value) of the ``attributes`` table."""
    if isinstance(value, bool):
        return "boolean", int(value)
    return ("string" if isinstance(value, str) else "number"), value
