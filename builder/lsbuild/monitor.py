"""Who watches a build: a console with bars, JSON lines for programs, or nobody; it is told, it never decides.

Observers are passed in (osbuild's monitor.py is the model), so no other module asks whether it may print.
"""

from __future__ import annotations

import json
import threading
import time
from types import TracebackType
from typing import IO, Any, Protocol, Self


class Monitor(Protocol):
    """What a build reports while it runs. Methods may be called from several threads and must return at once."""

    def stage(self, name: str) -> None:
        """A stage of the build begins: "sources", "plan", "execute", "pack" ..."""
        ...

    def started(self, step: str, reason: str) -> None:
        """A step or a download begins; ``reason`` says why it is needed."""
        ...

    def progress(self, step: str, done: int, total: int, label: str) -> None:
        """``done`` of ``total`` units; ``total`` 0 means unknown."""
        ...

    def finished(self, step: str, seconds: float, cached: bool) -> None:
        """A step is done, or was found in the store."""
        ...

    def failed(self, step: str, message: str) -> None:
        """A step ended with an error."""
        ...

    def note(self, text: str) -> None:
        """Something the user should know that stops nothing."""
        ...

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing; always called."""
        ...


class Silent:
    """Says nothing; the base of monitors that care for some events only."""

    def stage(self, name: str) -> None:
        """Say nothing."""

    def started(self, step: str, reason: str) -> None:
        """Say nothing."""

    def progress(self, step: str, done: int, total: int, label: str) -> None:
        """Say nothing."""

    def finished(self, step: str, seconds: float, cached: bool) -> None:
        """Say nothing."""

    def failed(self, step: str, message: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonLines(Silent):
    """One JSON object a line, flushed at once: ``{"event": "progress", "step": ..., "t": seconds since the start}``."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def _write(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, "t": round(time.monotonic() - self._start, 3), **fields}, ensure_ascii=False)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def stage(self, name: str) -> None:
        """Write a ``stage`` line."""
        self._write("stage", name=name)

    def started(self, step: str, reason: str) -> None:
        """Write a ``started`` line."""
        self._write("started", step=step, reason=reason)

    def progress(self, step: str, done: int, total: int, label: str) -> None:
        """Write a ``progress`` line."""
        self._write("progress", step=step, done=done, total=total, label=label)

    def finished(self, step: str, seconds: float, cached: bool) -> None:
        """Write a ``finished`` line."""
        self._write("finished", step=step, seconds=round(seconds, 3), cached=cached)

    def failed(self, step: str, message: str) -> None:
        """Write a ``failed`` line."""
        self._write("failed", step=step, message=message)

    def note(self, text: str) -> None:
        """Write a ``note`` line."""
        self._write("note", text=text)


class Console(Silent):
    """Bars and times for people, on stderr; every finished step leaves one line. Without a terminal only those lines."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        from rich.console import Console as RichConsole  # a cold path: JSON and silent builds never need rich
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = RichConsole(file=stream, stderr=stream is None, highlight=False)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[label]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def _line(self, mark: str, text: str, tail: str) -> None:
        from rich.text import Text

        self._console.print(Text(f"{mark} {text}  {tail}".rstrip()), soft_wrap=True)

    def started(self, step: str, reason: str) -> None:
        """Show a bar for the step."""
        with self._lock:
            short = reason if len(reason) <= 40 else f"{reason[:39]}…"
            self._tasks[step] = self._bars.add_task(step, total=None, label=short)

    def progress(self, step: str, done: int, total: int, label: str) -> None:
        """Move its bar."""
        with self._lock:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=None, label=label)
            self._bars.update(self._tasks[step], completed=done, total=total or None, label=label)

    def finished(self, step: str, seconds: float, cached: bool) -> None:
        """Replace its bar by a line with the time."""
        self._drop(step)
        self._line("=" if cached else "✓", step, "cached" if cached else f"{seconds:.1f} s")

    def failed(self, step: str, message: str) -> None:
        """Replace its bar by a line with the first line of the error."""
        self._drop(step)
        self._line("✗", step, message.partition("\n")[0])

    def note(self, text: str) -> None:
        """Print the note."""
        self._line("·", text, "")

    def _drop(self, step: str) -> None:
        with self._lock:
            task = self._tasks.pop(step, None)
            if task is not None:
                self._bars.remove_task(task)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
