"""Finds hermes tool calls (``<tool_call>{json}</tool_call>``) in streamed text; never shows a piece of a marker as text."""

from __future__ import annotations

import json
import os

from lsbuild_plugins.onnx.serve.text import overlap
from lsbuild_runtime.ports import ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MARKERS = (OPEN, CLOSE)


class ToolCallParser:
    """Feed pieces of text, get text and complete calls; the result does not depend on where the pieces were cut.

    White space between text and a call, and between calls, belongs to neither. What is not a valid call is given back
    as the text it was. At the end an open call counts if its JSON is complete (models stop before the closing marker).
    """

    def __init__(self) -> None:
        self._held = ""
        self._inside = False
        self._called = False

    def feed(self, piece: str) -> tuple[str, tuple[ToolCall, ...]]:
        """Text that may be shown now, and calls completed by ``piece``."""
        self._held += piece
        text: list[str] = []
        calls: list[ToolCall] = []
        while self._close(text, calls) if self._inside else self._open(text):
            pass
        return "".join(text), tuple(calls)

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """What was held back when no more text comes."""
        held, self._held = self._held, ""
        if not self._inside:
            return ("" if self._called and not held.strip() else held), ()
        start = held.index(OPEN) + len(OPEN)
        call = _parse(held[start:])
        if call:
            return "", (call,)
        return (held.lstrip() if self._called else held), ()

    def _open(self, text: list[str]) -> bool:
        """Pass text on up to an opening marker; True when one was found."""
        at = self._held.find(OPEN)
        if at >= 0:
            before = self._held[:at].rstrip()
            # The white space stays in front of the marker: it is text again if the call turns out not to be one.
            self._say(before, text)
            self._held = self._held[len(before) :]
            self._inside = True
            return True
        safe = self._held[: len(self._held) - overlap(self._held, OPEN)].rstrip()
        self._say(safe, text)
        self._held = self._held[len(safe) :]
        return False

    def _say(self, piece: str, text: list[str]) -> None:
        if piece:
            text.append(piece.lstrip() if self._called else piece)
            self._called = False

    def _close(self, text: list[str], calls: list[ToolCall]) -> bool:
        """Take a complete call out of the held text; False when more is needed."""
        start = self._held.index(OPEN) + len(OPEN)
        end = self._held.find(CLOSE, start)
        while end >= 0 and _in_string(self._held[start:end]):
            end = self._held.find(CLOSE, end + 1)
        if end < 0:
            return False
        call = _parse(self._held[start:end])
        whole, self._held = self._held[: end + len(CLOSE)], self._held[end + len(CLOSE) :]
        self._inside = False
        if call is None:
            self._say(whole, text)
        else:
            calls.append(call)
            self._called = True
        return True


def _in_string(body: str) -> bool:
    """Whether ``body`` ends inside a JSON string (a marker there is data)."""
    inside = escaped = False
    for char in body:
        if escaped:
            escaped = False
        elif char == '"':
            inside = not inside
        elif char == "\\":
            escaped = inside
    return inside


def _parse(body: str) -> ToolCall | None:
    try:
        call = json.loads(body)
    except ValueError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    if not isinstance(arguments, dict):
        return None
    text = json.dumps(arguments, ensure_ascii=False, separators=(", ", ": "))
    return ToolCall(id=f"call_{os.urandom(12).hex()}", name=call["name"], arguments=text)
