"""A user's question -> an FTS5 expression of quoted words; nothing a user types can become FTS5 syntax."""

from __future__ import annotations

import math
from typing import Any

import apsw
from msgspec import Struct

from lsbuild_plugins.sqlite_vec.serve.format import TOKENIZER

MAX_WORDS = 32
"""A longer query is searched by its rarest words."""

K1 = 1.2
"""Of FTS5's bm25(): one word adds less than ``idf * (K1 + 1)`` to the score of a passage."""

_STOP = """a about all am an and any are as at be been but by can could did do does doing for from had has have having he
her here him his how i if in into is it its just many me might more most much must my no nor not of off on or our out over
own please shall she should so some such tell than that the their them then there these they this those to too under up us
was we were what when where which while who whom why will with would you your"""
STOP_WORDS = frozenset(_STOP.split())
"""English function words. A query of nothing else keeps them."""


class Words(Struct, frozen=True):
    """``expression`` for MATCH ("" when no word of the query is in the index) and the best bm25 it could reach."""

    expression: str
    best: float


def words(connection: apsw.Connection, query: str, chunks: int) -> Words:
    """The query's words joined by OR, so that a passage need not hold them all; bm25 ranks those that hold more.

    ``best`` counts words that the index lacks as well: a passage that answers half of a question scores half.
    """
    written = surfaces(connection, query)
    weighed = [(surface, *_weight(connection, token, chunks)) for token, surface in written.items()]
    known = sorted((-idf, surface) for surface, hits, idf in weighed if hits)[:MAX_WORDS]
    expression = " OR ".join('"' + surface.replace('"', '""') + '"' for _, surface in known)
    return Words(expression, (K1 + 1) * sum(idf for _, _, idf in weighed))


def surfaces(connection: apsw.Connection, query: str) -> dict[str, str]:
    """Token -> the word as it was written, for FTS5 to tokenize again; stop words are left out if others remain."""
    name, arguments = TOKENIZER
    data = query.encode()
    tokens: Any = connection.fts5_tokenizer(name, list(arguments))(data, apsw.FTS5_TOKENIZE_QUERY, None)
    found = {token: data[start:end].decode() for start, end, token in tokens}
    kept = {token: surface for token, surface in found.items() if surface.lower() not in STOP_WORDS}
    return kept or found


def _weight(connection: apsw.Connection, token: str, chunks: int) -> tuple[int, float]:
    """Number of passages with the token, and its inverse document frequency."""
    row = connection.execute("SELECT doc FROM word WHERE term = ?", (token,)).fetchone()
    hits = row[0] if row else 0
    return hits, idf(hits, chunks)


def idf(hits: int, chunks: int) -> float:
    """Inverse document frequency of a token that ``hits`` of ``chunks`` passages hold, as FTS5's bm25() computes it."""
    return max(math.log((chunks - hits + 0.5) / (hits + 0.5)), 1e-6)
