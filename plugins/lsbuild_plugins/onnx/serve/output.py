"""One answer on its way out: tokens become Deltas (text, tool calls, log probabilities); it chooses nothing."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from lsbuild_plugins.onnx.serve.text import StopFilter, Vocabulary
from lsbuild_plugins.onnx.serve.tools import ToolCallParser
from lsbuild_runtime.ports import Delta, FinishReason, TokenLogprob, ToolCall, Usage


class _Pending(Struct, frozen=True):
    """A scored token whose characters ``start..end`` of the answer may still be held back."""

    start: int
    end: int
    scored: TokenLogprob


class Output:
    """The way of one choice: detokeniser, stop strings, tool calls. A token's score leaves with its last character."""

    def __init__(
        self, vocabulary: Vocabulary, index: int, stops: tuple[str, ...], parser: ToolCallParser | None
    ) -> None:
        self._index = index
        self._detokeniser = vocabulary.stream()
        self._stops = StopFilter(stops)
        self._parser = parser
        self._read = 0
        self._shown = 0
        self._pending: deque[_Pending] = deque()
        self.calls = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string was completed."""
        return self._stops.stopped

    def push(self, token: int, scored: TokenLogprob | None) -> Delta | None:
        """What may be shown after this token, or None."""
        piece = self._detokeniser.push(token)
        if scored is not None:
            # A token that completes no character waits for the next one.
            self._pending.append(_Pending(self._read, self._read + max(1, len(piece)), scored))
        self._read += len(piece)
        shown = self._stops.feed(piece) if piece else ""
        self._shown += len(shown)
        text, calls = self._parse(shown)
        logprobs = self._released()
        if not (text or calls or logprobs):
            return None
        return Delta(index=self._index, text=text, tool_calls=calls, logprobs=logprobs)

    def finish(self, reason: FinishReason, usage: Usage | None) -> Delta:
        """The last delta: what was held back, and why the answer ends."""
        text = ""
        calls: tuple[ToolCall, ...] = ()
        if not self.stopped:
            rest = self._stops.feed(self._detokeniser.finish())
            rest += self._stops.finish()
            text, calls = self._parse(rest)
        if self._parser is not None:
            tail, late = self._parser.finish()
            self.calls += len(late)
            text, calls = text + tail, calls + late
        if self.calls and reason == "stop":
            reason = "tool_calls"
        left = tuple(item.scored for item in self._pending if not self.stopped or item.start < self._shown)
        return Delta(
            index=self._index,
            text=text,
            tool_calls=calls,
            logprobs=left,
            finish=reason,
            usage=usage,
            stop=self._stops.stop,
        )

    def _parse(self, shown: str) -> tuple[str, tuple[ToolCall, ...]]:
        if self._parser is None or not shown:
            return shown, ()
        text, calls = self._parser.feed(shown)
        self.calls += len(calls)
        return text, calls

    def _released(self) -> tuple[TokenLogprob, ...]:
        out = []
        while self._pending and self._pending[0].end <= self._shown:
            out.append(self._pending.popleft().scored)
        return tuple(out)
