"""The canonical view of a text, which evasion cannot hide from, with the way back to the text's own characters.

Each character is replaced on its own, whatever stands around it (`compile.canonical` makes the table): nothing for
invisible characters and combining marks, an ASCII letter for what looks like one. So a view can grow with a stream. It
is UTF-8; *plain* is the view in lower case, *leet* has letters where digits and signs stand for them. All three have the
same length, so one offset is good for all.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping

_OTHER = re.compile(r"[^\x00-\x7f]+")
_LEET = bytes.maketrans(b"0134578@$", b"oieastbas")
LEET_SIGN = r"[a-z][0134578@$]|[0134578@$][a-z]"
"""Where a text in plain view may hide letters; without it the leet view has nothing new."""


def canonical(text: str, table: Mapping[int, str]) -> bytes:
    """The view of a whole text, ASCII letters in the case they have. A lone surrogate is ``?``."""
    if not text.isascii():
        text = _OTHER.sub(lambda found: found[0].translate(table), text)
    return text.encode("utf-8", "replace")


def leet(plain: bytes) -> bytes:
    """The plain view read as leet speak."""
    return plain.translate(_LEET)


class View:
    """The view of a text that grows at its end and is forgotten at its beginning. Offsets count from the text's start."""

    def __init__(self, table: Mapping[int, str]) -> None:
        self._table = table
        self._bytes = bytearray()
        self._places = array("q")
        self._first = 0
        self._length = 0

    @property
    def end(self) -> int:
        """The length of the view in bytes, forgotten ones included."""
        return self._first + len(self._bytes)

    def add(self, text: str) -> None:
        """The text goes on."""
        start = self._length
        self._length += len(text)
        if text.isascii():
            self._bytes += text.encode()
            self._places.extend(range(start, self._length))
            return
        for place, character in enumerate(text, start):
            data = self._table.get(ord(character), character).encode("utf-8", "replace")
            self._bytes += data
            self._places.extend([place] * len(data))

    def place(self, offset: int) -> int:
        """Which character of the text the byte at ``offset`` stands for; the text's length at the view's end."""
        index = offset - self._first
        return self._places[index] if index < len(self._places) else self._length

    def until(self, offset: int) -> int:
        """Where the characters end of which the byte before ``offset`` is the last that counts.

        What is invisible after them goes with them; a character of which only a part counts does too.
        """
        place = self.place(offset)
        return place + 1 if place == self.place(offset - 1) else place

    def part(self, start: int, end: int) -> bytes:
        """The view from ``start`` to ``end``, or to its own end."""
        return bytes(self._bytes[start - self._first : end - self._first])

    def forget(self, offset: int) -> None:
        """Nothing before ``offset`` will be asked for again."""
        gone = offset - self._first
        if gone > 0:
            del self._bytes[:gone]
            del self._places[:gone]
            self._first = offset
