"""Leaves stop words out of what FTS5 is given, so that no ranking changes; it tokenizes as the index does and writes nothing.

Each one becomes the same stand-in, so a passage stays as long as it was and every other word where it was: bm25 gives what it
gave. The words are those that a query is not searched by (`serve.words`); a query of nothing else finds nothing by words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

from lsbuild_plugins.sqlite_vec.serve.format import TOKENIZER
from lsbuild_plugins.sqlite_vec.serve.words import STOP_WORDS

STAND_IN = "\ue000".encode()
"""A code point for private use, which the tokenizer takes for a letter and nobody types."""

_LONGEST = max(map(len, STOP_WORDS))


def pruner(db: apsw.Connection) -> Callable[[str], str]:
    """What turns a text into the one to be indexed."""
    name, arguments = TOKENIZER
    tokenizer: Any = db.fts5_tokenizer(name, list(arguments))

    def pruned(text: str) -> str:
        data = text.encode()
        parts: list[bytes] = []
        done = 0
        for start, end, _ in tokenizer(data, apsw.FTS5_TOKENIZE_DOCUMENT, None):
            if end - start <= _LONGEST and data[start:end].decode().lower() in STOP_WORDS:
                parts += (data[done:start], STAND_IN)
                done = end
        return b"".join((*parts, data[done:])).decode() if parts else text

    return pruned
