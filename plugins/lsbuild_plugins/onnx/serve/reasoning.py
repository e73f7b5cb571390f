"""Divides streamed text into what a model thinks and what it answers, at the marks its card names."""

from __future__ import annotations

from lsbuild_plugins.onnx.serve.forms import Reasoning
from lsbuild_plugins.onnx.serve.text import overlap


class ReasoningParser:
    """Feed pieces, get (reasoning, text); white space around the marks is dropped, and a thought is never text.

    Only the beginning of an answer can be a thought. ``begun`` says that the prompt holds the opening mark already.
    """

    def __init__(self, marks: Reasoning, *, begun: bool) -> None:
        self._marks = marks
        self._held = ""
        self._state = "fresh" if begun else "before"

    @property
    def thinking(self) -> bool:
        """Whether the next text belongs to a thought."""
        return self._state in ("fresh", "thinking")

    def feed(self, piece: str) -> tuple[str, str]:
        """What may be shown now."""
        self._held += piece
        if self._state == "before":
            self._open()
        reasoning = self._think() if self._state in ("fresh", "thinking") else ""
        return reasoning, self._answer()

    def finish(self) -> tuple[str, str]:
        """What was held back when no more text comes."""
        held, self._held = self._held, ""
        if self._state in ("fresh", "thinking"):
            return held.strip() if self._state == "fresh" else held.rstrip(), ""
        return "", held.lstrip("\n") if self._state == "after" else held

    def _open(self) -> None:
        """Wait until it is known whether the text begins with the opening mark."""
        text, mark = self._held.lstrip(), self._marks.open
        if text.startswith(mark):
            self._held, self._state = text[len(mark) :], "fresh"
        elif not mark.startswith(text):
            self._state = "answering"

    def _think(self) -> str:
        if self._state == "fresh":
            self._held = self._held.lstrip()
            self._state = "thinking" if self._held else "fresh"
        at = self._held.find(self._marks.close)
        if at >= 0:
            shown, self._held = self._held[:at].rstrip(), self._held[at + len(self._marks.close) :]
            self._state = "after"
            return shown
        end = len(self._held[: len(self._held) - overlap(self._held, self._marks.close)].rstrip())
        shown, self._held = self._held[:end], self._held[end:]
        return shown

    def _answer(self) -> str:
        if self._state == "after":
            self._held = self._held.lstrip()
            self._state = "answering" if self._held else "after"
        if self._state != "answering":
            return ""
        shown, self._held = self._held, ""
        return shown
