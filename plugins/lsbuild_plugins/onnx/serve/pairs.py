"""What goes into a reranker and what comes out, pairs of token ids and scores; it opens no graph and knows no request.

A passage that is too long is cut at its end. A query never is: whoever calls looks first whether it fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from lsbuild_plugins.onnx.serve.tokenizer import Tokenizer


class Pair(NamedTuple):
    """One encoded pair; ``types`` is 0 for the query and 1 for the passage, or 0 throughout (RoBERTa)."""

    ids: tuple[int, ...]
    types: tuple[int, ...]


class Pairs:
    """Encodes in the tokenizer's own form of a pair, at most ``longest`` tokens with its marks. Thread-safe.

    The tokenizer must neither cut nor pad by itself.
    """

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        self._tokenizer = tokenizer
        self._room = longest - tokenizer.num_special_tokens_to_add(True)
        self.longest_query = max(1, self._room // 2)
        """Tokens of the longest query: half of what a pair holds."""

    def query(self, text: str) -> Any:
        """The query's encoding, to be given to ``encode``; its ``ids`` are its tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def encode(self, query: Any, passages: Sequence[str]) -> list[Pair]:
        """One pair for each passage, in their order. The query must not be longer than ``longest_query``."""
        left = self._room - len(query.ids)
        return [
            self._pair(query, each, left) for each in self._tokenizer.encode_batch(passages, add_special_tokens=False)
        ]

    def _pair(self, query: Any, passage: Any, left: int) -> Pair:
        passage.truncate(left)
        pair = self._tokenizer.post_process(query, passage)
        return Pair(tuple(pair.ids), tuple(pair.type_ids))


def separates(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer marks where the second text of a pair begins."""
    return bool(tokenizer.num_special_tokens_to_add(True) > 0)


def logistic(x: float) -> float:
    """1 / (1 + e^-x) without overflow, in double precision: float32 would call everything above 17 equal."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    small = math.exp(x)
    return small / (1.0 + small)
