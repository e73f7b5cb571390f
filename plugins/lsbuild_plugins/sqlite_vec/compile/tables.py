"""Writes the tables of an index, one document or one vector at a time; decides nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import apsw
import numpy as np
from numpy.typing import NDArray

from lsbuild_plugins.sqlite_vec.compile.cluster import Codes, encode
from lsbuild_plugins.sqlite_vec.compile.codes import CodeFile
from lsbuild_plugins.sqlite_vec.compile.corpus import BLOCK, Corpus
from lsbuild_plugins.sqlite_vec.serve.format import CODES, LISTS, UNROUNDED, Meta, vector_value, vectors_table
from lsbuild_runtime.ports import Attribute, passage_id

VECTORS_PER_BLOB = 256

Integers = NDArray[np.int64]


def texts(
    db: apsw.Connection,
    corpus: Corpus,
    order: Integers,
    indexed: Callable[[str], str],
    progress: Callable[[int, int, str], None],
) -> None:
    """Documents, their attributes, passages and words (those that ``indexed`` leaves of a text). Row ids of documents follow
    the corpus; those of passages count the rows of the corpus in ``order`` [chunks].
    """
    paths = []
    for number, document in enumerate(corpus.documents(), start=1):
        paths.append(document.path)
        file = (number, document.file_id, document.path, bytes.fromhex(document.sha256), document.size)
        db.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", file)
        pairs = [(number, key, *typed(value)) for key, value in sorted(document.attributes.items())]
        db.executemany("INSERT INTO attributes VALUES (?, ?, ?, ?)", pairs)
    files, sections = _files(corpus), _sections(db, corpus)
    for number, row in enumerate(order.tolist(), start=1):
        passage, path = corpus.passage(row), paths[files[row] - 1]
        if number % BLOCK == 1:
            progress(number, corpus.chunks, path)
        place = (passage.start, passage.end - passage.start, passage.line_start, passage.line_end - passage.line_start)
        db.execute(
            "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?)", (number, int(sections[row]), passage.text, *place)
        )
        if passage.chunk_id != passage_id(path, passage.start, passage.end, passage.text):
            db.execute("INSERT INTO named VALUES (?, ?)", (number, passage.chunk_id))
        words = (number, indexed(f"{passage.heading}\n{passage.text}"))
        db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", words)
    db.execute("INSERT INTO words (words) VALUES ('optimize')")


def flat(db: apsw.Connection, corpus: Corpus, meta: Meta) -> None:
    """All vectors in one vec0 table."""
    blob = min(VECTORS_PER_BLOB, math.ceil(meta.chunks / 8) * 8)
    db.execute(vectors_table(meta.dimensions, meta.encoding, blob))
    statement = f"INSERT INTO vectors (rowid, embedding) VALUES (?, {vector_value(meta.encoding)})"  # noqa: S608
    for start, block in corpus.blocks():
        values = block if meta.encoding == "float32" else encode(block, meta.scale)
        db.executemany(statement, ((start + n, v.tobytes()) for n, v in enumerate(values, start=1)))


def clustered(db: apsw.Connection, corpus: Corpus, codes: CodeFile, centroids: Codes, nearest: Integers) -> int:
    """Vectors in the order of their lists (that of ``np.argsort(nearest, kind="stable")``); lists that no vector is nearest
    to are left out. Returns how many are left.
    """
    db.execute(LISTS + CODES)
    sizes = np.bincount(nearest, minlength=len(centroids)).tolist()
    order = np.argsort(nearest, kind="stable").tolist()
    files = _files(corpus)
    rows = ((place, int(files[row]), codes.row(row)) for place, row in enumerate(order, start=1))
    db.executemany("INSERT INTO codes VALUES (?, ?, ?)", rows)
    kept = list(_lists(sizes, centroids))
    db.executemany("INSERT INTO lists VALUES (?, ?, ?, ?)", kept)
    return len(kept)


def unrounded(db: apsw.Connection, corpus: Corpus, order: Integers) -> None:
    """The float32 vectors of all rows of the corpus in ``order``, that of ``placed``."""
    db.execute(UNROUNDED)
    for start in range(0, len(order), BLOCK):
        block = corpus.take(order[start : start + BLOCK])
        db.executemany(
            "INSERT INTO unrounded VALUES (?, ?)", ((start + n, v.tobytes()) for n, v in enumerate(block, 1))
        )


def _files(corpus: Corpus) -> Integers:
    """The number of each row's document."""
    return np.repeat(np.arange(1, corpus.files + 1), corpus.passages)


def _sections(db: apsw.Connection, corpus: Corpus) -> Integers:
    """Write the headings of each document; returns the number of each row's."""
    numbers = np.empty(corpus.chunks, np.int64)
    row = count = 0
    for file, passages in enumerate(corpus.passages, start=1):
        known: dict[tuple[str, str], int] = {}
        for _ in range(passages):
            passage = corpus.passage(row)
            both = (passage.heading, passage.prefix)
            if both not in known:
                count += 1
                known[both] = count
                db.execute("INSERT INTO sections VALUES (?, ?, ?, ?)", (count, file, *both))
            numbers[row] = known[both]
            row += 1
    return numbers


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
