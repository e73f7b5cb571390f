"""Who watches a build: a console with bars, JSON lines for programs, or nobody; it is told, it never decides.

Observers are passed in (osbuild's monitor.py is the model), so no other module asks whether it may print.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
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


class Pace:
    """How fast a step gets on, from its progress of the last half minute: what was quick at first does not promise more."""

    WINDOW = 30.0
    """Seconds that are looked at; the rate of a longer past says little about what is left."""
    LEAST = 1.0
    """Seconds that have to be seen before a rate is told."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._total = 0
        self.rate = 0.0
        """Units in a second; 0 while it is not known."""
        self.left = 0.0
        """Seconds to the end at that rate."""

    def update(self, now: float, done: int, total: int) -> None:
        """Take in that ``done`` of ``total`` units are done at ``now`` (seconds); another total starts anew."""
        if total != self._total or (self._seen and done < self._seen[-1][1]):
            self._seen.clear()
        self._total = total
        self._seen.append((now, done))
        while now - self._seen[0][0] > self.WINDOW and len(self._seen) > 2:
            self._seen.popleft()
        (start, first), elapsed = self._seen[0], now - self._seen[0][0]
        known = total > 0 and elapsed >= self.LEAST and done > first
        self.rate = (done - first) / (now - start) if known else 0.0
        self.left = (total - done) / self.rate if known else 0.0

    def __str__(self) -> str:
        if not self.rate:
            return ""
        rate = f"{self.rate:.0f}" if self.rate >= 10 else f"{self.rate:.1f}"
        minutes, seconds = divmod(int(self.left + 0.5), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f"{rate}/s, {left} left"


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
    """One JSON object a line, flushed at once: ``{"event": "progress", "step": ..., "t": seconds since the start}``.

    Once they are known, a ``progress`` line has ``rate`` (units in a second) and ``left`` (seconds).
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._paces: dict[str, Pace] = {}

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
        with self._lock:
            pace = self._paces.setdefault(step, Pace())
            pace.update(time.monotonic(), done, total)
            speed = {"rate": round(pace.rate, 3), "left": round(pace.left, 1)} if pace.rate else {}
        self._write("progress", step=step, done=done, total=total, label=label, **speed)

    def finished(self, step: str, seconds: float, cached: bool) -> None:
        """Write a ``finished`` line."""
        self._paces.pop(step, None)
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
            TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, tuple[Any, Pace]] = {}
        self._lock = threading.Lock()

    def _line(self, mark: str, text: str, tail: str) -> None:
        from rich.text import Text

        self._console.print(Text(f"{mark} {text}  {tail}".rstrip()), soft_wrap=True)

    def started(self, step: str, reason: str) -> None:
        """Show a bar for the step."""
        with self._lock:
            short = reason if len(reason) <= 40 else f"{reason[:39]}…"
            self._add(step, short)

    def progress(self, step: str, done: int, total: int, label: str) -> None:
        """Move its bar; what has a total also shows its rate and the time that is left."""
        with self._lock:
            if step not in self._tasks:
                self._add(step, label)
            task, pace = self._tasks[step]
            pace.update(time.monotonic(), done, total)
            self._bars.update(task, completed=done, total=total or None, label=label)

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

    def _add(self, step: str, label: str) -> None:
        pace = Pace()
        self._tasks[step] = (self._bars.add_task(step, total=None, label=label, pace=pace), pace)

    def _drop(self, step: str) -> None:
        with self._lock:
            if known := self._tasks.pop(step, None):
                self._bars.remove_task(known[0])

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
