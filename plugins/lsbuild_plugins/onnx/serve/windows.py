"""Texts as windows of token ids, none longer than a model reads, so that no part of a text goes unread; it opens no graph."""

from __future__ import annotations

from typing import Any

from lsbuild_plugins.onnx.serve.tokenizer import Tokenizer

OVERLAP = 64
"""Tokens that neighbouring windows share, at most a quarter of one: what stands on the edge of a window is whole in the next."""


class Windows:
    """Cuts texts for a model that reads ``longest`` tokens with its marks. Thread-safe.

    The tokenizer must neither cut nor pad by itself.
    """

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        self._tokenizer = tokenizer
        self._room = longest - tokenizer.num_special_tokens_to_add(False)
        self._overlap = min(OVERLAP, self._room // 4)

    def of(self, text: str) -> list[tuple[int, ...]]:
        """The windows of a text in their order, at least one."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        encoded.truncate(self._room, stride=self._overlap)
        parts: list[Any] = [encoded, *encoded.overflowing]
        return [tuple(self._tokenizer.post_process(part).ids) for part in parts]
