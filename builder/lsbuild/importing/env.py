"""``${env.X}`` as Llama Stack writes it, read and written again as a spec does; pure.

Llama Stack has ``${env.X}``, ``${env.X:=default}``, ``${env.X:+value if set}`` and, up to 0.2.12,
``${env.X:default}`` and ``${env.X+value if set}``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_REFERENCE = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)(?:(:[=+]?|\+)([^{}]*))?\}")
_PIECE = re.compile(rf"{_REFERENCE.pattern}|\$")


@dataclass(frozen=True, slots=True)
class Reference:
    """One ``${env...}``: ``word`` is the default, or the value that counts when the variable is set."""

    variable: str
    kind: Literal["plain", "default", "if_set"]
    word: str


def _reference(match: re.Match[str]) -> Reference:
    if match[3] is None:
        return Reference(match[1], "plain", "")
    return Reference(match[1], "if_set" if match[2].endswith("+") else "default", match[3].strip("\u200b"))


def references(text: str) -> tuple[Reference, ...]:
    """All of a text, in order."""
    return tuple(_reference(match) for match in _REFERENCE.finditer(text))


def whole(text: str) -> Reference | None:
    """The reference that is the whole text, or None."""
    match = _REFERENCE.fullmatch(text.strip())
    return _reference(match) if match else None


def modern(text: str) -> str:
    """The text as a spec writes it: ``:=`` for defaults, the value itself for ``:+``, ``$$`` for another dollar sign."""

    def written(match: re.Match[str]) -> str:
        if match[0] == "$":
            return "$$"
        found = _reference(match)
        if found.kind == "if_set":
            return found.word
        return f"${{env.{found.variable}:={found.word}}}" if found.word else f"${{env.{found.variable}}}"

    return _PIECE.sub(written, text)


def usual(text: str) -> str:
    """What the text is when no variable is set, with ``:+`` taken as set and a bare variable by its own name."""
    return _REFERENCE.sub(lambda match: _reference(match).word or match[1].lower(), text)


def conditions(text: str) -> tuple[str, ...]:
    """The variables that switch the entry on: those of ``:+``."""
    return tuple(found.variable for found in references(text) if found.kind == "if_set")
