"""Finds tool calls in streamed text, in the form that the model's card names; never shows a piece of a marker as text."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from lsbuild_plugins.onnx.serve import calls
from lsbuild_plugins.onnx.serve.cut import cut
from lsbuild_plugins.onnx.serve.forms import ToolForm
from lsbuild_plugins.onnx.serve.text import overlap
from lsbuild_runtime.ports import ToolCall

Steps = Generator[None, None, int]
"""Reads on from a place in the held text, pauses while it needs more, gives the place after what it read, or -1."""

_PYTHON_TAG = "<|python_tag|>"
"""Llama 3 may write it before a call; it says nothing else."""


class ToolCallParser:
    """Feed pieces of text, get text and complete calls; the result does not depend on where the pieces were cut.

    White space between text and a call, and between calls, belongs to neither. What is not a valid call is given back
    as the text it was. At the end an open call counts if its arguments are complete (models stop before the closing
    marker). Of an answer that ``must`` be a call, what a limit leaves of a beginning is no text. The reader is a coroutine:
    it stands where it is until more text comes, so each character is read once.
    """

    def __init__(self, form: ToolForm, tools: Sequence[Mapping[str, Any]] = (), must: bool = False) -> None:
        self._form = form
        self._must = must
        self._types = calls.types_of(tools)
        self._held = ""
        self._ended = False
        self._cut = False
        self._text: list[str] = []
        self._found: list[ToolCall] = []
        self._called = False
        self._failed_at = 0
        self._work = self._marked() if form.opener else self._bare()
        next(self._work)

    def feed(self, piece: str) -> tuple[str, tuple[ToolCall, ...]]:
        """Text that may be shown now, and calls completed by ``piece``."""
        self._held += piece
        next(self._work, None)
        return self._given()

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """What was held back when no more text comes."""
        self._ended = True
        next(self._work, None)
        return self._given()

    def cut(self) -> tuple[str, tuple[ToolCall, ...]]:
        """As ``finish``, of an answer that the limit of tokens ended: an open call comes as far as it is written."""
        self._cut = True
        text, found = self.finish()
        return "" if self._must else text, found

    def _given(self) -> tuple[str, tuple[ToolCall, ...]]:
        text, found = "".join(self._text), tuple(self._found)
        self._text.clear()
        self._found.clear()
        return text, found

    def _say(self, end: int) -> None:
        """Pass on the held text up to ``end``; white space after a call belongs to nobody."""
        piece, self._held = self._held[:end], self._held[end:]
        piece = piece.lstrip() if self._called else piece
        if piece:
            self._text.append(piece)
            self._called = False

    def _marked(self) -> Generator[None, None, None]:
        """Text and calls behind a marker, in any order."""
        mark = self._form.opener
        while True:
            at = self._held.find(mark)
            if at >= 0:
                # The white space stays in front of the marker: it is text again if the call turns out not to be one.
                self._say(len(self._held[:at].rstrip()))
                yield from self._section(self._held.index(mark))
            elif self._ended:
                self._say(len(self._held))
                return
            else:
                self._say(len(self._held[: len(self._held) - overlap(self._held, mark)].rstrip()))
                yield

    def _bare(self) -> Generator[None, None, None]:
        """A whole answer that is calls by its first character, or else text."""
        first = (self._form.begin + self._form.open).strip()[:1] or "{"
        start = yield from self._literal(0, _PYTHON_TAG)
        start = yield from self._space(max(start, 0))
        if self._held.startswith(first, start):
            yield from self._section(start)
        while not self._ended:
            self._say(len(self._held))
            yield
        self._say(len(self._held))

    def _section(self, start: int) -> Generator[None, None, None]:
        """All calls of one ``begin ... end``; what follows a broken one is text."""
        at = yield from self._literal(start, self._form.begin)
        if at < 0:
            self._broken(len(self._held))
        while at >= 0:
            after = yield from self._call(at)
            if after < 0:
                self._broken(at)
                return
            self._held, self._called = self._held[after:], True
            at = yield from self._next()

    def _broken(self, at: int) -> None:
        """What is no call is text, unless it is one that was cut: it stands at ``at``."""
        # A form without a marker is known by the function that it names.
        call = cut(self._held[at:], self._form, self._types) if self._cut and self._ended else None
        known = call is not None and (call[0] in self._types or bool(self._form.opener))
        if call is not None and known:
            self._found.append(ToolCall(_new_id(self._form), *call))
        if known or (self._cut and self._ended and self._form.opener):
            self._held, self._called = "", True
        else:
            self._say(self._failed_at)

    def _next(self) -> Steps:
        """Where another call of the section begins, or -1 when it is over."""
        form = self._form
        if form.end:
            over = yield from self._literal(0, form.end, closing=True)
            if over >= 0:
                self._held = self._held[over:]
                return -1
        if form.join.strip():
            return (yield from self._literal(0, form.join))
        if form.opener and not form.begin:
            return -1
        at = yield from self._space(0)
        first = (form.open or "{").strip()[:1]
        return at if self._held.startswith(first, at) else -1

    def _call(self, at: int) -> Steps:
        """One ``open CALL close``; adds it, or leaves where it failed in ``_failed_at``."""
        at = yield from self._literal(at, self._form.open)
        if at < 0:
            return -1
        reader = {"object": self._object, "named": self._named, "pairs": self._pairs, "python": self._python}
        stop, call = yield from reader[self._form.shape](at)
        # Without a marker an object with a name is a call only if there is such a function.
        if call is None or (not self._form.opener and call[0] not in self._types):
            return self._failed(stop) if stop >= 0 else -1
        if self._form.shape != "pairs":
            stop = yield from self._literal(stop, self._form.close, closing=True)
            if stop < 0:
                return -1
        self._found.append(ToolCall(_new_id(self._form), *call))
        return stop

    def _object(self, at: int) -> Generator[None, None, tuple[int, calls.Call | None]]:
        start = yield from self._space(at)
        stop = yield from self._balanced(start)
        return stop, calls.of_object(self._held[start:stop], self._form) if stop >= 0 else None

    def _named(self, at: int) -> Generator[None, None, tuple[int, calls.Call | None]]:
        stop = yield from self._name(at)
        name = self._held[at:stop].strip()
        start = yield from self._literal(stop, self._form.middle)
        if start < 0:
            return -1, None
        start = yield from self._space(start)
        stop = yield from self._balanced(start)
        return stop, calls.of_named(name, self._held[start:stop]) if stop >= 0 else None

    def _python(self, at: int) -> Generator[None, None, tuple[int, calls.Call | None]]:
        start = yield from self._name(at)
        stop = yield from self._balanced(start, "\"'")
        name = self._held[at:start].strip()
        return stop, calls.of_python(name, self._held[start:stop]) if stop >= 0 else None

    def _pairs(self, at: int) -> Generator[None, None, tuple[int, calls.Call | None]]:
        """A name and its arguments up to ``close``, which is read here: it ends the arguments."""
        form = self._form
        stop = yield from self._name(at)
        name = self._held[at:stop].strip()
        at = yield from self._literal(stop, form.middle)
        if at < 0:
            return -1, None
        if form.quote:
            stop = yield from self._outside_quotes(at, form.close)
            body, after = (self._held[at:stop], stop + len(form.close)) if stop >= 0 else ("", -1)
            return after, calls.of_quoted(name, body, form) if stop >= 0 else None
        pairs: dict[str, str] = {}
        while True:
            over = yield from self._literal(at, form.close, closing=bool(pairs))
            if over >= 0:
                return over, calls.of_strings(name, pairs, self._types)
            at = yield from self._pair(at, pairs)
            if at < 0:
                return -1, None

    def _pair(self, at: int, pairs: dict[str, str]) -> Steps:
        form = self._form
        if pairs:
            at = yield from self._literal(at, form.pair_join)
        at = (yield from self._literal(at, form.key_open)) if at >= 0 else -1
        stop = (yield from self._find(at, form.key_close.strip())) if at >= 0 else -1
        if stop < 0:
            return -1
        start = stop + len(form.key_close.strip())
        end = yield from self._find(start, form.value_close.strip())
        if end < 0:
            return -1
        pairs[self._held[at:stop].strip()] = _unframed(self._held[start:end], form)
        return end + len(form.value_close.strip())

    def _literal(self, at: int, text: str, *, closing: bool = False) -> Steps:
        """The place after ``text``, compared without white space; -1 when something else stands there.

        A ``closing`` text that the end of the stream cuts short counts as whole.
        """
        for char in text:
            if char.isspace():
                continue
            at = yield from self._space(at)
            if at >= len(self._held):
                return at if closing else self._failed(at)
            if self._held[at] != char:
                return self._failed(at)
            at += 1
        return at

    def _failed(self, at: int) -> int:
        self._failed_at = max(
            at, len(self._form.opener) and self._held.find(self._form.opener) + len(self._form.opener)
        )
        return -1

    def _space(self, at: int) -> Steps:
        """The next place that is no white space; the end of the text when the stream is over."""
        while True:
            while at < len(self._held) and self._held[at].isspace():
                at += 1
            if at < len(self._held) or self._ended:
                return at
            yield

    def _name(self, at: int) -> Steps:
        """The place after a name."""
        at = yield from self._space(at)
        while True:
            while at < len(self._held) and (self._held[at].isalnum() or self._held[at] in "_.-"):
                at += 1
            if at < len(self._held) or self._ended:
                return at
            yield

    def _find(self, at: int, text: str) -> Steps:
        """The next place of ``text``, or -1."""
        while (found := self._held.find(text, at)) < 0:
            if self._ended:
                return self._failed(len(self._held))
            at = max(at, len(self._held) - len(text) + 1)
            yield
        return found

    def _outside_quotes(self, at: int, text: str) -> Steps:
        """The next place of ``text`` that is not inside a string of the model's own quotes, or -1."""
        quote = self._form.quote
        while True:
            stop = yield from self._find_first(at, (quote, text))
            if stop < 0 or self._held.startswith(text, stop):
                return stop
            stop = yield from self._find(stop + len(quote), quote)
            if stop < 0:
                return -1
            at = stop + len(quote)

    def _find_first(self, at: int, texts: Sequence[str]) -> Steps:
        longest = max(map(len, texts))
        while True:
            found = [place for text in texts if (place := self._held.find(text, at)) >= 0]
            # One that is not whole yet may begin before the first that is.
            if found and (self._ended or min(found) + longest <= len(self._held)):
                return min(found)
            if self._ended:
                return self._failed(len(self._held))
            at = at if found else max(at, len(self._held) - longest + 1)
            yield

    def _balanced(self, at: int, quotes: str = '"') -> Steps:
        """The place after the bracket that closes the one at ``at``; -1 when none stands there or the stream ends."""
        depth, quote = 0, ""
        if at >= len(self._held) or self._held[at] not in "{[(":
            return self._failed(at)
        while True:
            while at < len(self._held):
                char = self._held[at]
                at += 1
                if quote:
                    if char == "\\":
                        at += 1
                    elif char == quote:
                        quote = ""
                elif char in quotes:
                    quote = char
                elif char in "{[(":
                    depth += 1
                elif char in "}])":
                    depth -= 1
                    if not depth:
                        self._failed_at = at
                        return at
            if self._ended:
                return self._failed(len(self._held))
            yield


def _new_id(form: ToolForm) -> str:
    return os.urandom(5).hex()[:9] if form.short_ids else f"call_{os.urandom(12).hex()}"


def _unframed(value: str, form: ToolForm) -> str:
    """A bare value without the line breaks that its form puts around it."""
    value = value.removeprefix("\n") if form.key_close.endswith("\n") else value
    return value.removesuffix("\n") if form.value_close.startswith("\n") else value
