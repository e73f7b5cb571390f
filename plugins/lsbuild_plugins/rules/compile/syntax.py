"""The part of RE2's syntax that rules may use, read to know the longest and the shortest match; it matches nothing.

Left out is what makes a match depend on more than its own characters and their two neighbours (anchors, ``\\B``) or has
no bound (``*``, ``+``, ``{n,}``), and flags. Lengths are in bytes of UTF-8: what may be another character than an ASCII
one counts four.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_RUNE = 4
_MOST_REPEATS = 200
_COUNT = re.compile(r"\{(\d+)(,(\d*))?\}")
_CLASS_NAME = re.compile(r"\[:\^?[a-z]+:\]")
_NARROW, _WIDE = "dsw", "DSW"


class PatternError(ValueError):
    """The pattern is not of this syntax; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of the shortest and of the longest match."""

    least: int
    most: int

    def then(self, other: Bounds) -> Bounds:
        """One after the other."""
        return Bounds(self.least + other.least, self.most + other.most)

    def either(self, other: Bounds) -> Bounds:
        """One of both."""
        return Bounds(min(self.least, other.least), max(self.most, other.most))


_NOTHING = Bounds(0, 0)


def bounds(pattern: str) -> Bounds:
    """The lengths of a pattern's matches; PatternError names the first thing in it that a rule may not use."""
    if not pattern.isascii():
        raise PatternError("it is not ASCII; write letters of other alphabets as words")
    reader = _Reader(pattern)
    found = reader.alternatives()
    if reader.place < len(pattern):
        raise reader.fault("a ')' that closes nothing")
    if found.least == 0:
        raise PatternError("it matches the empty text")
    return found


def character_class(pattern: str) -> None:
    """PatternError unless ``pattern`` is one class of ASCII characters, such as ``[a-z0-9-]``."""
    reader = _Reader(pattern)
    if not pattern.isascii() or not pattern.startswith("[") or pattern.startswith("[^"):
        raise PatternError("it must be one class of ASCII characters, such as [a-z0-9-]")
    if reader.one() != Bounds(1, 1) or reader.place != len(pattern):
        raise PatternError("it must be one class of ASCII characters, such as [a-z0-9-]")


class _Reader:
    """Reads from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.place = 0

    def fault(self, what: str) -> PatternError:
        return PatternError(f"{what} (at character {self.place + 1} of {self.pattern!r})")

    def alternatives(self) -> Bounds:
        found = self.sequence()
        while self.take("|"):
            found = found.either(self.sequence())
        return found

    def sequence(self) -> Bounds:
        found = _NOTHING
        while self.place < len(self.pattern) and self.pattern[self.place] not in "|)":
            found = found.then(self.repeated(self.one()))
        return found

    def take(self, text: str) -> bool:
        if not self.pattern.startswith(text, self.place):
            return False
        self.place += len(text)
        return True

    def one(self) -> Bounds:
        character = self.pattern[self.place]
        if character in "^$":
            raise self.fault(f"the anchor '{character}', which a stream does not have")
        if character in "*+?{":
            raise self.fault(f"'{character}' repeats nothing")
        self.place += 1
        if character == "(":
            return self.group()
        if character == "[":
            return self.bracket()
        if character == "\\":
            return self.escape()
        return Bounds(1, _RUNE) if character == "." else Bounds(1, 1)

    def group(self) -> Bounds:
        if self.take("?") and not self.take(":"):
            raise self.fault("a group with flags or a name; write (?:...)")
        found = self.alternatives()
        if not self.take(")"):
            raise self.fault("a '(' that is not closed")
        return found

    def escape(self) -> Bounds:
        if self.place >= len(self.pattern):
            raise self.fault("a '\\' at the end")
        character = self.pattern[self.place]
        self.place += 1
        if character == "b":
            return _NOTHING
        if character in _NARROW or character in "nrt" or not character.isalnum():
            return Bounds(1, 1)
        if character in _WIDE:
            return Bounds(1, _RUNE)
        raise self.fault(f"'\\{character}', which rules may not use")

    def bracket(self) -> Bounds:
        most = _RUNE if self.take("^") else 1
        first = True
        while first or not self.take("]"):
            if self.place >= len(self.pattern):
                raise self.fault("a '[' that is not closed")
            named = _CLASS_NAME.match(self.pattern, self.place)
            if named is not None:
                self.place = named.end()
                most = _RUNE if "^" in named[0] else most
            elif self.take("\\"):
                most = max(most, self.escape().most)
            else:
                self.place += 1
            first = False
        return Bounds(1, most)

    def repeated(self, one: Bounds) -> Bounds:
        if self.take("*") or self.take("+"):
            raise self.fault("a repetition without a limit; write {0,N}")
        if self.take("?"):
            least, most = 0, 1
        elif (count := _COUNT.match(self.pattern, self.place)) is not None:
            least = int(count[1])
            if count[2] == ",":
                raise self.fault("a repetition without a limit; write {M,N}")
            most = int(count[3]) if count[3] else least
            self.place = count.end()
        else:
            return one
        if most > _MOST_REPEATS or most < least:
            raise self.fault(f"a repetition of {least} to {most}; at most {_MOST_REPEATS}")
        self.take("?")
        if self.place < len(self.pattern) and self.pattern[self.place] in "*+?{":
            raise self.fault("a repetition of a repetition; put a group around the inner one")
        return Bounds(one.least * least, one.most * most)
