"""The step that joins all shards into one read-only SQLite file; the same passages give the same bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from lsbuild.api import Json, StepContext, StepError
from lsbuild_plugins.documents.passages import VECTORS, Indexed, read
from lsbuild_plugins.sqlite_vec.serve.connect import load_vec0
from lsbuild_plugins.sqlite_vec.serve.format import (
    APPLICATION_ID,
    FILE_NAME,
    SCHEMA,
    TABLES,
    Encoding,
    Meta,
    encode,
    vector_value,
    vectors_table,
)
from lsbuild_runtime.ports import Attribute

FLOAT32_CHUNKS = 5000
"""Up to here vectors stay float32: exact, no slower to scan, at most 8 MB at 384 dimensions. Above, int8 keeps a quarter."""

CLIP_QUANTILE = 0.9995
"""Share of components that int8 holds without clipping; the scale is 127 / this quantile."""

LENGTH_TOLERANCE = 0.01
PAGE_SIZE = 4096
VECTORS_PER_BLOB = 256

Vectors = NDArray[np.float32]


def run(context: StepContext) -> Mapping[str, Json]:
    """Options ``embedding`` (the model's name) and ``vectors`` (auto, float32 or int8); inputs: one folder for each shard."""
    documents = sorted(_load(context.inputs), key=lambda pair: pair[0].path)
    parts = [rows for _, rows in documents if len(rows)]
    if not parts:
        raise StepError(
            f"none of the {len(documents)} documents holds any text", hint="Check the sources of the vector store."
        )
    vectors = np.concatenate(parts)
    _check(vectors, context.options["embedding"])
    encoding = _encoding(context.options["vectors"], len(vectors))
    meta = Meta(
        embedding=context.options["embedding"],
        dimensions=vectors.shape[1],
        encoding=encoding,
        scale=_scale(vectors) if encoding == "int8" else 1.0,
        files=len(documents),
        chunks=len(vectors),
        bytes=sum(document.size for document, _ in documents),
    )
    path = context.out / FILE_NAME
    write(path, [document for document, _ in documents], vectors, meta, context)
    return {**msgspec.to_builtins(meta), "index_bytes": path.stat().st_size}


def write(path: Path, documents: list[Indexed], vectors: Vectors, meta: Meta, context: StepContext) -> None:
    """Write the file at ``path``; row ids follow the order of ``documents`` and their passages."""
    connection = apsw.Connection(str(path))
    try:
        connection.execute(f"PRAGMA page_size={PAGE_SIZE}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
        load_vec0(connection)
        with connection:
            connection.execute(TABLES)
            blob = min(VECTORS_PER_BLOB, math.ceil(meta.chunks / 8) * 8)
            connection.execute(vectors_table(meta.dimensions, meta.encoding, blob))
            connection.execute("INSERT INTO meta VALUES (?)", (msgspec.json.encode(meta, order="sorted").decode(),))
            _write_texts(connection, documents, context)
            _write_vectors(connection, vectors, meta)
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA}; ANALYZE; VACUUM")
    finally:
        connection.close()


def _load(inputs: Mapping[str, Path]) -> Iterator[tuple[Indexed, Vectors]]:
    """Each document with its vectors, float32 [passages, dimensions]."""
    for folder in inputs.values():
        documents = read(folder)
        count = sum(len(document.passages) for document in documents)
        flat = np.fromfile(folder / VECTORS, dtype="<f4")
        rows = flat.reshape(count, -1) if count else flat.reshape(0, 0)
        first = 0
        for document in documents:
            yield document, rows[first : first + len(document.passages)]
            first += len(document.passages)


def _check(vectors: Vectors, embedding: str) -> None:
    """Distances rank as cosines do only between vectors of unit length; a NaN would be near everything."""
    lengths = np.linalg.norm(vectors, axis=1)
    worst = float(lengths[np.argmax(np.abs(lengths - 1))])
    if not abs(worst - 1) < LENGTH_TOLERANCE:
        raise StepError(
            f"the embedding model gives a vector of length {worst:.4f}; an index needs unit length",
            where=f"models.{embedding}",
            hint="Check the model's pooling and normalisation.",
        )


def _encoding(wanted: str, chunks: int) -> Encoding:
    if wanted == "float32" or (wanted == "auto" and chunks <= FLOAT32_CHUNKS):
        return "float32"
    return "int8"


def _scale(vectors: Vectors) -> float:
    return float(127.0 / np.quantile(np.abs(vectors).astype(np.float64), CLIP_QUANTILE))


def _write_texts(connection: apsw.Connection, documents: list[Indexed], context: StepContext) -> None:
    row = 0
    for number, document in enumerate(documents, start=1):
        context.progress(number, len(documents), document.path)
        file = (number, file_id(document.path), document.path, document.sha256, document.size)
        connection.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", file)
        pairs = [(number, key, *typed(value)) for key, value in sorted(document.attributes.items())]
        connection.executemany("INSERT INTO attributes VALUES (?, ?, ?, ?)", pairs)
        for passage in document.passages:
            row += 1
            place = (passage.start, passage.end, passage.line_start, passage.line_end)
            values = (row, passage.chunk_id, number, passage.heading, passage.text, *place)
            connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            words = (row, passage.heading, passage.text)
            connection.execute("INSERT INTO words (rowid, heading, text) VALUES (?, ?, ?)", words)


def _write_vectors(connection: apsw.Connection, vectors: Vectors, meta: Meta) -> None:
    statement = f"INSERT INTO vectors (rowid, embedding) VALUES (?, {vector_value(meta.encoding)})"  # noqa: S608
    rows = ((row, encode(v.tobytes(), meta.encoding, meta.scale)) for row, v in enumerate(vectors, start=1))
    connection.executemany(statement, rows)


def file_id(path: str) -> str:
    """The id that clients see; it stays when the file's content changes."""
    return f"file-{hashlib.sha256(path.encode()).hexdigest()[:24]}"


def typed(value: Attribute) -> tuple[str, str | int | float]:
    """An attribute as (type, value) of the ``attributes`` table."""
    if isinstance(value, bool):
        return "boolean", int(value)
    return ("string" if isinstance(value, str) else "number"), value
