"""JsonWatch: one JSON log line per request; it never sees a prompt or an answer, only names, counts and times."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from lsbuild_runtime.http import Span

Write = Callable[[str], object]
"""Takes one line with its newline."""


class JsonWatch:
    """The Watch of one request. The first span is the request's; it gathers what the inner ones say and writes the line.

    Keys follow the OpenTelemetry conventions (``http.route``, ``gen_ai.usage.input_tokens``); ``spans`` holds the name
    and the milliseconds of each inner span, ``counts`` the sum of each counter.
    """

    def __init__(self, request_id: str, write: Write) -> None:
        self._line: dict[str, Any] = {"time": "", "level": "info", "request_id": request_id}
        self._spans: list[dict[str, Any]] = []
        self._counts: dict[str, float] = {}
        self._write = write
        self._root: _JsonSpan | None = None

    def span(self, name: str, **attributes: Any) -> Span:
        """Open a span; the first one is the request's."""
        span = _JsonSpan(self, name)
        span.set(**attributes)
        if self._root is None:
            self._root = span
        return span

    def count(self, name: str, value: float, **attributes: Any) -> None:  # noqa: ARG002 - a log line has no labels
        """Add to the request's own sum of that name."""
        self._counts[name] = self._counts.get(name, 0) + value

    def _set(self, attributes: dict[str, Any]) -> None:
        error = attributes.pop("error", None)
        if isinstance(error, BaseException):
            self._line["level"] = "error"
            self._line["error.type"] = type(error).__name__
            self._line["exception.stacktrace"] = "".join(traceback.format_exception(error))
        self._line.update(attributes)

    def _end(self, span: _JsonSpan, milliseconds: float) -> None:
        if span is not self._root:
            self._spans.append({"name": span.name, "ms": milliseconds})
            return
        line = self._line
        line["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line["ms"] = milliseconds
        if self._spans:
            line["spans"] = self._spans
        if self._counts:
            line["counts"] = self._counts
        self._write(msgspec.json.encode(line, enc_hook=str).decode() + "\n")


class _JsonSpan:
    __slots__ = ("_start", "_watch", "name")

    def __init__(self, watch: JsonWatch, name: str) -> None:
        self._watch = watch
        self._start = 0.0
        self.name = name

    def __enter__(self) -> Span:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch._end(self, round((time.perf_counter() - self._start) * 1000, 3))

    def set(self, **attributes: Any) -> None:
        self._watch._set(attributes)


def json_lines(request_id: str) -> JsonWatch:
    """An ``app.Observe`` that writes to stderr."""
    return JsonWatch(request_id, sys.stderr.write)
