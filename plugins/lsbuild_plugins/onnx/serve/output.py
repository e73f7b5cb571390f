"""One answer on its way out: tokens become Deltas (text, tool calls, log probabilities); it chooses nothing."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from lsbuild_plugins.onnx.serve.reasoning import ReasoningParser
from lsbuild_plugins.onnx.serve.text import StopFilter, Vocabulary
from lsbuild_plugins.onnx.serve.tools import ToolCallParser
from lsbuild_runtime.ports import Delta, FinishReason, TokenLogprob, ToolCall, Usage


class _Pending(Struct, frozen=True):
    """A scored token whose characters ``start..end`` of the answer may still be held back."""

    start: int
    end: int
    scored: TokenLogprob


Read = tuple[str, str, tuple[ToolCall, ...]]
"""Reasoning, text and calls."""


class Reader:
    """Divides an answer's text: a thought at its beginning, calls in the rest. Without either everything is text."""

    def __init__(self, thoughts: ReasoningParser | None, calls: ToolCallParser | None) -> None:
        self._thoughts = thoughts
        self._calls = calls

    @property
    def thinking(self) -> bool:
        """Whether the next text belongs to a thought."""
        return self._thoughts is not None and self._thoughts.thinking

    def feed(self, piece: str) -> Read:
        """What of it may be shown now."""
        reasoning, text = self._thoughts.feed(piece) if self._thoughts else ("", piece)
        return (reasoning, *(self._calls.feed(text) if self._calls and text else (text, ())))

    def finish(self, reason: FinishReason) -> Read:
        """What was held back when no more text comes, for that reason."""
        reasoning, text = self._thoughts.finish() if self._thoughts else ("", "")
        if self._calls is None:
            return reasoning, text, ()
        shown, found = self._calls.feed(text)
        rest, late = self._calls.cut() if reason == "length" else self._calls.finish()
        return reasoning, shown + rest, found + late


class Output:
    """The way of one choice: detokeniser, stop strings, tool calls. A token's score leaves with its last character."""

    def __init__(self, vocabulary: Vocabulary, index: int, stops: tuple[str, ...], reader: Reader) -> None:
        self._index = index
        self._detokeniser = vocabulary.stream()
        self._stops = StopFilter(stops)
        self._reader = reader
        self._read = 0
        self._shown = 0
        self._pending: deque[_Pending] = deque()
        self.calls = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string was completed."""
        return self._stops.stopped

    @property
    def thinking(self) -> bool:
        """Whether the next token belongs to a thought."""
        return self._reader.thinking

    def push(self, token: int, scored: TokenLogprob | None) -> Delta | None:
        """What may be shown after this token, or None."""
        piece = self._detokeniser.push(token)
        if scored is not None:
            # A token that completes no character waits for the next one.
            self._pending.append(_Pending(self._read, self._read + max(1, len(piece)), scored))
        self._read += len(piece)
        shown = self._stops.feed(piece) if piece else ""
        self._shown += len(shown)
        reasoning, text, calls = self._reader.feed(shown) if shown else ("", "", ())
        self.calls += len(calls)
        logprobs = self._released()
        if not (text or reasoning or calls or logprobs):
            return None
        return Delta(index=self._index, text=text, reasoning=reasoning, tool_calls=calls, logprobs=logprobs)

    def finish(self, reason: FinishReason, usage: Usage | None) -> Delta:
        """The last delta: what was held back, and why the answer ends."""
        rest = "" if self.stopped else self._stops.feed(self._detokeniser.finish()) + self._stops.finish()
        first, last = self._reader.feed(rest), self._reader.finish(reason)
        self.calls += len(first[2]) + len(last[2])
        if self.calls and reason == "stop":
            reason = "tool_calls"
        left = tuple(item.scored for item in self._pending if not self.stopped or item.start < self._shown)
        return Delta(
            index=self._index,
            text=first[1] + last[1],
            reasoning=first[0] + last[0],
            tool_calls=first[2] + last[2],
            logprobs=left,
            finish=reason,
            usage=usage,
            stop=self._stops.stop,
        )

    def _released(self) -> tuple[TokenLogprob, ...]:
        out = []
        while self._pending and self._pending[0].end <= self._shown:
            out.append(self._pending.popleft().scored)
        return tuple(out)
