"""The step of a mutable store without documents: an index of nothing, so that its model and dimensions are known and checked."""

from __future__ import annotations

from collections.abc import Mapping

import apsw
import msgspec

from lsbuild.api import Json, Service, StepContext
from lsbuild_plugins.documents.embed import opened, vector
from lsbuild_plugins.sqlite_vec.serve.connect import load_vec0
from lsbuild_plugins.sqlite_vec.serve.format import APPLICATION_ID, FILE_NAME, SCHEMA, TABLES, Meta, vectors_table


def run(context: StepContext) -> Mapping[str, Json]:
    """Options ``embedding`` (the model's name) and ``service`` (of that model); input ``embedding``, its folder."""
    with opened(msgspec.convert(context.options["service"], Service), context.inputs["embedding"]) as model:
        dimensions = len(vector(model, "dimensions", "an empty store").vector) // 4
    name = context.options["embedding"]
    meta = Meta(embedding=name, dimensions=dimensions, encoding="float32", scale=1.0, files=0, chunks=0, bytes=0)
    path = context.out / FILE_NAME
    connection = apsw.Connection(str(path))
    try:
        connection.execute("PRAGMA page_size=4096; PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF")
        load_vec0(connection)
        with connection:
            connection.execute(TABLES)
            connection.execute(vectors_table(dimensions, meta.encoding, 8))
            connection.execute("INSERT INTO meta VALUES (?)", (msgspec.json.encode(meta, order="sorted").decode(),))
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA}; VACUUM")
    finally:
        connection.close()
    return {**msgspec.to_builtins(meta), "index_bytes": path.stat().st_size}
