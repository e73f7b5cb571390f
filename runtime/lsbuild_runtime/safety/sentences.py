"""Guards of shields that judge meaning: a stream is looked at in whole sentences, and none leaves before it was looked at.

A piece ends after the first sentence that makes it long enough, or where it is as long as it may be. It is looked at together
with the end of what went before, so that a sentence is not read without its context. Where pieces end depends on the text
alone, never on how the stream was cut; what is looked at for a character does not grow with the length so far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.safety import Finding

_SENTENCE = re.compile(r"[.!?][\"')\]]*\s|[。！？\n]")


class Pieces(Struct, frozen=True):
    """Characters of a piece: not below ``least`` (but for the last), at most ``most``, with ``before`` that went before it.

    ``most`` None holds the whole text back to its end.
    """

    least: int = 100
    most: int | None = 400
    before: int = 200


WHOLE = Pieces(most=None, before=0)


def every(characters: int | None) -> Pieces:
    """What a spec's ``every`` means: a piece of at most that many characters; None is the whole text."""
    return WHOLE if characters is None else Pieces(characters // 4, characters, characters // 2)


def end_of_piece(text: str, start: int, pieces: Pieces) -> int:
    """Where the piece of ``text`` ends that begins at ``start``; ``start`` itself when that is not known yet."""
    if pieces.most is None:
        return start
    stop = start + pieces.most
    sentence = _SENTENCE.search(text, start + max(pieces.least - 1, 0), stop)
    if sentence is not None:
        return sentence.end()
    return stop if len(text) >= stop else start


class PiecesGuard:
    """Implements shielding.Guard. ``look`` says what is found in a text; it is asked for one piece after the other.

    When it raises, nothing was taken: all that was not released is still ``held``.
    """

    def __init__(self, look: Callable[[str], Sequence[Finding]], pieces: Pieces) -> None:
        self.blocked: Finding | None = None
        self._look = look
        self._pieces = pieces
        self._parts: list[str] = []
        self._before = ""
        self._start = 0
        self._found: tuple[Finding, ...] = ()

    def feed(self, text: str) -> str:
        """See shielding.Guard."""
        if self.blocked is not None or not text:
            return ""
        self._parts.append(text)
        return "" if self._pieces.most is None else self._released(last=False)

    def end(self) -> str:
        """See shielding.Guard."""
        return "" if self.blocked is not None else self._released(last=True)

    def held(self) -> str:
        """See shielding.Guard."""
        return "".join(self._parts)

    def findings(self) -> tuple[Finding, ...]:
        """See shielding.Guard."""
        return self._found

    def _released(self, *, last: bool) -> str:
        text = self.held()
        self._parts = [text]
        at, start, before, found = 0, self._start, self._before, self._found
        released: list[str] = []
        blocked: Finding | None = None
        while blocked is None and (piece := self._piece(text, at, last=last)):
            seen = [replace(each, start=start, end=start + len(piece)) for each in self._look(before + piece)]
            blocked = next((each for each in seen if each.action == "block"), None)
            redacted = next((each for each in seen if each.action == "redact"), None)
            if blocked is None:
                released.append(piece if redacted is None else f"[{redacted.category}]")
            # What was found once would be found again with the next piece.
            before = "" if seen else (before + piece)[-self._pieces.before or len(before + piece) :]
            found = (*found, *seen)
            at, start = at + len(piece), start + len(piece)
        self._parts = [] if blocked is not None else [text[at:]]
        self._start, self._before, self._found, self.blocked = start, before, found, blocked
        return "".join(released)

    def _piece(self, text: str, start: int, *, last: bool) -> str:
        end = end_of_piece(text, start, self._pieces)
        return text[start:] if last and end == start else text[start:end]


class Passing:
    """Implements shielding.Guard for texts that a shield does not look at."""

    blocked: Finding | None = None

    def feed(self, text: str) -> str:
        """All of it."""
        return text

    def end(self) -> str:
        """Nothing is left."""
        return ""

    def held(self) -> str:
        """Nothing."""
        return ""

    def findings(self) -> tuple[Finding, ...]:
        """Nothing."""
        return ()
