"""JsonWatch: one JSON log line per request; it never sees a prompt or an answer, only names, counts and times."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from lsbuild_runtime.http import Span

Write = Callable[[str], object]
"""Takes one line with its newline."""
_SHOWN_DEPTH = 2


class JsonWatch:
    """The Watch of one request. The first span is the request's; when it ends, the line is written.

    Keys follow the OpenTelemetry conventions (``http.route``, ``gen_ai.usage.input_tokens``). The attributes of the
    request's span and of those directly in it stand in the line itself, those of deeper ones beside their names and
    milliseconds in ``spans``; ``counts`` holds the sum of each counter.
    """

    def __init__(self, request_id: str, write: Write) -> None:
        self._line: dict[str, Any] = {"time": "", "level": "info", "request_id": request_id}
        self._spans: list[dict[str, Any]] = []
        self._counts: dict[str, float] = {}
        self._write = write
        self._depth = 0

    def span(self, name: str, **attributes: Any) -> Span:
        """A span to be entered."""
        return _JsonSpan(self, name, attributes)

    def count(self, name: str, value: float, **attributes: Any) -> None:  # noqa: ARG002 - a log line has no labels
        """Add to the request's own sum of that name."""
        self._counts[name] = self._counts.get(name, 0) + value

    def _begin(self, own: dict[str, Any]) -> dict[str, Any]:
        """Where the attributes of the span that begins now belong; ``own`` is its entry in ``spans``."""
        if self._depth:
            self._spans.append(own)
        self._depth += 1
        return self._line if self._depth <= _SHOWN_DEPTH else own

    def _end(self, milliseconds: float) -> None:
        self._depth -= 1
        if self._depth:
            return
        line = self._line
        line["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line["ms"] = milliseconds
        if self._spans:
            line["spans"] = self._spans
        if self._counts:
            line["counts"] = self._counts
        self.emit(line)

    def emit(self, line: dict[str, Any]) -> None:
        """Write the finished line."""
        self._write(msgspec.json.encode(line, enc_hook=str).decode() + "\n")


class _JsonSpan:
    __slots__ = ("_attributes", "_own", "_start", "_watch")

    def __init__(self, watch: JsonWatch, name: str, attributes: dict[str, Any]) -> None:
        self._watch = watch
        self._own: dict[str, Any] = {"name": name, "ms": 0.0}
        self._attributes = attributes
        self._start = 0.0

    def __enter__(self) -> Span:
        given, self._attributes = self._attributes, self._watch._begin(self._own)
        self._attributes.update(given)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self._own["ms"] = milliseconds = round((time.perf_counter() - self._start) * 1000, 3)
        self._watch._end(milliseconds)

    def set(self, **attributes: Any) -> None:
        error = attributes.pop("error", None)
        if isinstance(error, BaseException):
            import traceback  # nothing else of a start needs it

            attributes["level"] = "error"
            attributes["error.type"] = type(error).__name__
            attributes["exception.stacktrace"] = "".join(traceback.format_exception(error))
        self._attributes.update(attributes)


def json_lines(request_id: str) -> JsonWatch:
    """An ``app.Observe`` that writes to stderr."""
    return JsonWatch(request_id, sys.stderr.write)
