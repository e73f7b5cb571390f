"""Lists over the vectors of a large generation, by the centroids of the clustered index below it: both then cost a search alike.

The vectors themselves stay beside the lists, so nothing is lost by rounding, and a runtime that knows lists of another form
only searches more slowly.
"""

from __future__ import annotations

from typing import Any

import apsw
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from lsbuild_plugins.sqlite_vec.serve.format import LISTS, SCHEMA, Meta, Scan, encode
from lsbuild_plugins.sqlite_vec.serve.layers import Layer
from lsbuild_runtime.http import Context

EXACT = 5000
"""Up to here comparing with every passage takes no longer than reading lists does."""

_TABLES = f"""
{LISTS}
CREATE TABLE placed (
    place INTEGER PRIMARY KEY, id INTEGER NOT NULL, file INTEGER NOT NULL, embedding BLOB NOT NULL
);
CREATE TABLE clusters (value TEXT NOT NULL);
CREATE TEMP TABLE found (list INTEGER NOT NULL, chunk INTEGER NOT NULL, embedding BLOB NOT NULL);
"""
_NEAREST = "SELECT id FROM lists ORDER BY vec_distance_cosine(vec_int8(centroid), vec_int8(?)), id LIMIT 1"
_PLACE = (
    "INSERT INTO placed SELECT row_number() OVER (ORDER BY list, chunk), chunk, c.file, embedding "
    "FROM temp.found JOIN chunks c ON c.id = chunk"
)


class Clusters(Struct, frozen=True, kw_only=True):
    """How the lists are searched; ``schema`` is `format.SCHEMA` of those who wrote them."""

    schema: int
    scale: float
    lists: int
    probes: int
    scan: Scan


def place(db: apsw.Connection, base: Layer, context: Context) -> None:
    """Put every vector of ``db`` into the list of its nearest centroid in ``base``."""
    db.execute(_TABLES)
    for (chunk,) in db.execute("SELECT id FROM chunks ORDER BY id").fetchall():
        context.check()
        vector: Any = db.execute("SELECT embedding FROM vectors WHERE rowid = ?", (chunk,)).get
        code = encode(vector, "int8", base.meta.scale)
        with base.blame():
            nearest = base.db.execute(_NEAREST, (code,)).get
        db.execute("INSERT INTO temp.found VALUES (?, ?, ?)", (nearest, chunk, code))
    db.execute(_PLACE)
    db.execute("CREATE UNIQUE INDEX placed_id ON placed (id)")
    sizes: Any = db.execute("SELECT list, count(*) FROM temp.found GROUP BY list ORDER BY list").fetchall()
    first = 1
    for number, size in sizes:
        with base.blame():
            centroid = base.db.execute("SELECT centroid FROM lists WHERE id = ?", (number,)).get
        db.execute("INSERT INTO lists VALUES (?, ?, ?, ?)", (number, first, first + size - 1, centroid))
        first += size
    meta, lists = base.meta, len(sizes)
    clusters = Clusters(schema=SCHEMA, scale=meta.scale, lists=lists, probes=min(meta.probes, lists), scan=meta.scan)
    db.execute("INSERT INTO clusters VALUES (?)", (msgspec.json.encode(clusters).decode(),))
    db.execute("DROP TABLE temp.found")


def listed(db: apsw.Connection, exact: Meta) -> Meta:
    """``exact``, or how to search its lists when it has some that we know."""
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'clusters'").get:
        return exact
    value: Any = db.execute("SELECT value FROM clusters").get
    try:
        found = msgspec.json.decode(value, type=Clusters)
    except msgspec.MsgspecError:  # of another version
        return exact
    if found.schema != SCHEMA or not found.lists:
        return exact
    return replace(exact, encoding="int8", scale=found.scale, lists=found.lists, probes=found.probes, scan=found.scan)
