"""Where the words of one long list stand in a view: an Aho-Corasick automaton, for lists that RE2 takes too much for.

It finds what the same words find as alternatives of a pattern: whole words, the longest from every offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_WORD = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
"""Bytes that RE2 counts as part of a word."""


class Literals:
    """``words`` as they stand in the plain view. The automaton is made with the first text; several threads may use it."""

    def __init__(self, words: Sequence[str]) -> None:
        import ahocorasick_rs  # a wheel that ships with long lists only

        self._words = [word.encode() for word in words]
        self._ends = [(_bounded(word[0]), _bounded(word[-1])) for word in words]
        self._automaton = ahocorasick_rs.BytesAhoCorasick(
            self._words, implementation=ahocorasick_rs.Implementation.ContiguousNFA
        )

    def spans(self, text: bytes) -> dict[int, int]:
        """The end of the longest word by each offset where one begins."""
        found: dict[int, int] = {}
        for start, end in self._whole(text):
            found[start] = max(end, found.get(start, 0))
        return found

    def stands_in(self, text: bytes) -> bool:
        """Whether any of the words is there."""
        return next(self._whole(text), None) is not None

    def _whole(self, text: bytes) -> Iterator[tuple[int, int]]:
        for index, start, end in self._automaton.find_matches_as_indexes(text, overlapping=True):
            before, after = self._ends[index]
            joined_before = before and start > 0 and text[start - 1] in _WORD
            joined_after = after and end < len(text) and text[end] in _WORD
            if not (joined_before or joined_after):
                yield start, end


def _bounded(character: str) -> bool:
    """Whether a word that begins or ends so is a whole word only; other alphabets than ASCII know no boundary in RE2."""
    return character.isascii() and character.isalnum()
