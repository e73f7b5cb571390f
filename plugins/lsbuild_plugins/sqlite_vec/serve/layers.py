"""A store as layers, compiled index, generation and delta: each asked by `segment`, their rankings joined; it never writes.

A document lies in one layer: what is written to an upper one is masked in those below, whole (hidden) or in its
attributes. Masks become temporary tables of the lower layer's connection, where the queries of `segment` meet them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import apsw
import msgspec

from lsbuild_plugins.sqlite_vec.serve import rows, segment
from lsbuild_plugins.sqlite_vec.serve.connect import Connection
from lsbuild_plugins.sqlite_vec.serve.format import Meta
from lsbuild_plugins.sqlite_vec.serve.rows import Counts, Layout
from lsbuild_plugins.sqlite_vec.serve.segment import Ranked, Where
from lsbuild_plugins.sqlite_vec.serve.words import K1, MAX_WORDS, idf, surfaces
from lsbuild_runtime.mutable import StoredFile
from lsbuild_runtime.ports import Attribute, Hit, Passage

COMPILED, GENERATION, DELTA = range(3)
"""Numbers of layers, lowest first; results with equal scores come in their order."""

_SHIFT = 48
"""A row of all layers is ``layer << 48 | row of chunks``."""

_FETCHED_BESIDE = (16, 1000)
"""Hidden passages that are fetched besides the wanted ones, first and at most; a thousand cost as much as 20,000 compared."""

_NEARLY_ALL = 0.9
"""Share of a store's passages whose statistics are as good as those of all."""

_WEIGHED_AGAIN = 5000
"""A layer with more matches than this has good statistics of its own."""

_MASKS = """
PRAGMA query_only=0;
CREATE TEMP TABLE IF NOT EXISTS hidden (file INTEGER PRIMARY KEY);
CREATE TEMP TABLE IF NOT EXISTS masked (file INTEGER PRIMARY KEY);
CREATE TEMP TABLE IF NOT EXISTS instead (file, key, type, value, PRIMARY KEY (file, key)) WITHOUT ROWID;
DELETE FROM temp.hidden; DELETE FROM temp.masked; DELETE FROM temp.instead
"""
_SHADOW = """
CREATE TEMP VIEW IF NOT EXISTS attributes AS
SELECT file, key, type, value FROM main.attributes WHERE file NOT IN (SELECT file FROM temp.masked)
UNION ALL SELECT file, key, type, value FROM temp.instead
"""
"""SQLite looks for a name among temporary tables first, so every query reads this instead of the file's own."""

_ALLOWED = "SELECT c.id FROM chunks c JOIN files f ON f.id = c.file WHERE "
_VISIBLE = "f.id NOT IN (SELECT file FROM temp.hidden)"


class Layer(NamedTuple):
    """One file at one moment. ``blame`` turns errors of SQLite into answers that name it."""

    number: int
    db: apsw.Connection
    meta: Meta
    layout: Layout
    hidden: Counts
    blame: Callable[[], AbstractContextManager[None]]

    @property
    def visible(self) -> Counts:
        """What is left of it."""
        meta, hidden = self.meta, self.hidden
        return Counts(meta.files - hidden.files, meta.chunks - hidden.chunks, meta.bytes - hidden.bytes)

    def documents(self) -> Iterator[tuple[int, StoredFile]]:
        """Its visible documents with their rows."""
        with self.blame():
            yield from rows.documents(self.db, self.layout, _VISIBLE if self.hidden.files else "1")

    def document(self, file_id: str) -> tuple[int, StoredFile] | None:
        """One visible document with its row."""
        where = f"f.file_id = ? AND {_VISIBLE if self.hidden.files else '1'}"
        with self.blame():
            return next(rows.documents(self.db, self.layout, where, file_id), None)

    def content(self, row: int) -> tuple[list[Passage], list[bytes]]:
        """A document's passages in order, with their vectors."""
        with self.blame():
            return rows.content(self.db, self.layout, self.meta, row)


def mask(db: Connection, delta: apsw.Connection, layer: int, version: int) -> Counts:
    """Bring a connection's masks to ``version``, that of the last change of any; returns what is hidden."""
    if db.masked == version:
        return Counts(*db.hidden)
    db.masked = -1
    db.execute(_MASKS)
    found: Any = delta.execute("SELECT file_id, attributes FROM masks WHERE layer = ?", (layer,)).fetchall()
    hidden = msgspec.json.encode([file_id for file_id, given in found if given is None]).decode()
    db.execute(
        "INSERT INTO temp.hidden SELECT f.id FROM json_each(?) j JOIN main.files f ON f.file_id = j.value", (hidden,)
    )
    changed = [(file_id, given) for file_id, given in found if given is not None]
    if changed:
        db.execute(_SHADOW)
    for file_id, given in changed:
        row = db.execute("SELECT id FROM main.files WHERE file_id = ?", (file_id,)).get
        if row is not None:
            db.execute("INSERT INTO temp.masked VALUES (?)", (row,))
            pairs = msgspec.json.decode(given, type=dict[str, Attribute])
            values = [(row, key, *rows.typed(value)) for key, value in pairs.items()]
            db.executemany("INSERT INTO temp.instead VALUES (?, ?, ?, ?)", values)
    db.execute("PRAGMA query_only=1")
    count: Any = db.execute(
        "SELECT count(*), coalesce(sum((SELECT count(*) FROM chunks c WHERE c.file = h.file)), 0), "
        "coalesce(sum(f.bytes), 0) FROM temp.hidden h JOIN main.files f ON f.id = h.file"
    ).fetchone()
    db.hidden = count
    db.masked = version
    return Counts(*count)


def near(layers: Sequence[Layer], vector: bytes, limit: int, depth: int, where: Where | None) -> Ranked:
    """The ``depth`` passages of all layers nearest to a float32 vector, by cosine."""

    def of(layer: Layer) -> Ask:
        return lambda beside, own: segment.near(layer.db, layer.meta, vector, limit + beside, depth + beside, own)

    return _best([pair for layer in _filled(layers) for pair in _shown(layer, of(layer), depth, where)], depth)


def worded(layers: Sequence[Layer], query: str, depth: int, where: Where | None) -> Ranked:
    """The ``depth`` passages of all layers that hold most of the query's words, scored as in `segment.worded`.

    How rare a word is, is counted over all layers: in a delta of three passages it would say nothing. A layer that is
    nearly all of the store, or has many matches, keeps its own count.
    """
    filled = _filled(layers)
    total = sum(layer.meta.chunks for layer in filled)
    small = {layer.number for layer in filled if layer.meta.chunks < _NEARLY_ALL * total}
    weights = _weights(filled, query) if small else {}

    def of(layer: Layer) -> Ask:
        if layer.number in small and sum(known[layer.number] for _, _, known in weights.values()) <= _WEIGHED_AGAIN:
            return lambda beside, own: _best(_weighed(layer, weights, own), depth + beside)
        return lambda beside, own: segment.worded(layer.db, layer.meta, query, depth + beside, own)

    return _best([pair for layer in filled for pair in _shown(layer, of(layer), depth, where)], depth)


def hits(layers: Sequence[Layer], ranked: Ranked) -> list[Hit]:
    """The passages of ``ranked``, in its order."""
    by_number = {layer.number: layer for layer in layers}
    found = []
    for row, score in ranked:
        layer = by_number[row >> _SHIFT]
        with layer.blame():
            found += segment.hits(layer.db, [(row & ((1 << _SHIFT) - 1), score)])
    return found


def _filled(layers: Sequence[Layer]) -> list[Layer]:
    return [layer for layer in layers if layer.meta.chunks]


Ask = Callable[[int, Where | None], Ranked]
"""Asks one layer for so many passages besides the wanted ones, under a condition."""


def _shown(layer: Layer, ask: Ask, depth: int, where: Where | None) -> Ranked:
    """The best visible passages of a layer, ``depth`` of them when there are as many; numbered.

    Few hidden ones are among the best, so some are fetched besides and dropped, then more if that was not enough; only then
    SQLite is given the condition, for which it would list every visible passage first.
    """
    with layer.blame():
        if where is None:
            for most in _FETCHED_BESIDE:
                beside = min(layer.hidden.chunks, most)
                found = ask(beside, None)
                shown = _without_hidden(layer, found) if beside else found
                if len(shown) >= depth or beside == layer.hidden.chunks:
                    return _numbered(layer, shown)
        own = where
        if layer.hidden.chunks:
            own = (f"({where[0]}) AND {_VISIBLE}", where[1]) if where else (_VISIBLE, ())
        return _numbered(layer, ask(0, own))


def _without_hidden(layer: Layer, ranked: Ranked) -> Ranked:
    sql = "SELECT c.id FROM json_each(?) j JOIN chunks c ON c.id = j.value JOIN temp.hidden h ON h.file = c.file"
    asked = msgspec.json.encode([row for row, _ in ranked]).decode()
    dropped = {row for (row,) in layer.db.execute(sql, (asked,))}
    return [(row, score) for row, score in ranked if row not in dropped]


def _numbered(layer: Layer, ranked: Ranked) -> Ranked:
    return [(layer.number << _SHIFT | row, score) for row, score in ranked]


def _best(ranked: Ranked, depth: int) -> Ranked:
    return sorted(ranked, key=lambda pair: (-pair[1], pair[0]))[:depth]


_Weights = dict[str, tuple[str, float, dict[int, int]]]
"""Token -> the word as it was written, its rarity among all layers, its matches in each layer."""


def _weights(layers: Sequence[Layer], query: str) -> _Weights:
    total = sum(layer.meta.chunks for layer in layers)
    weights: _Weights = {}
    for token, surface in surfaces(layers[0].db, query).items():
        known = {layer.number: _matches(layer, token) for layer in layers}
        weights[token] = (surface, idf(sum(known.values()), total), known)
    return weights


def _matches(layer: Layer, token: str) -> int:
    with layer.blame():
        found: Any = layer.db.execute("SELECT doc FROM word WHERE term = ?", (token,)).get
        return found or 0


def _weighed(layer: Layer, weights: _Weights, where: Where | None) -> Ranked:
    """Every match of a layer. bm25 is a sum over words, each times its rarity in the layer: that factor is exchanged."""
    best = (K1 + 1) * sum(rarity for _, rarity, _ in weights.values())
    known = sorted((-rarity, surface, found[layer.number]) for surface, rarity, found in weights.values())
    sql = "SELECT rowid, rank FROM words WHERE words MATCH ?"
    if where:
        sql += f" AND +rowid IN ({_ALLOWED}{where[0]})"
    scores: dict[int, float] = {}
    for negative, surface, matches in [each for each in known if each[2]][:MAX_WORDS]:
        factor = negative / idf(matches, layer.meta.chunks)
        quoted = '"' + surface.replace('"', '""') + '"'
        for row, rank in layer.db.execute(sql, (quoted, *(where[1] if where else ()))):
            scores[row] = scores.get(row, 0.0) + rank * factor
    return [(row, min(1.0, max(0.0, score / best))) for row, score in scores.items()]
