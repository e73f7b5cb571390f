"""Hedging: the next candidate starts when nobody has spoken for a while; the first to speak answers, the others stop.

The idea is Dean and Barroso's ("The Tail at Scale", 2013). Each attempt of a race has a thread; without hedging there is
none.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from lsbuild_runtime.federation.attempt import Try, refusal
from lsbuild_runtime.federation.course import Course, Port
from lsbuild_runtime.http import ApiError, Cancelled

T = TypeVar("T")
_SLICE = 0.25
_WINDOW = 32
"""Items of the winner that may wait to be read; it pauses when the client reads more slowly."""


class _Runner(Generic[T]):
    """One attempt on a thread of its own. ``error`` is set when it broke before its first token."""

    def __init__(self, attempt: Try[T], port: Port, spoke: queue.SimpleQueue[_Runner[T]]) -> None:
        self.attempt = attempt
        self.error: BaseException | None = None
        self._spoke = spoke
        self._items: queue.Queue[T | _End] = queue.Queue(_WINDOW)
        self._thread = threading.Thread(target=self._run, args=(port,), name="attempt", daemon=True)
        self._thread.start()

    def _run(self, port: Port) -> None:
        try:
            items = self.attempt.begin(port)
        except BaseException as error:  # whatever it is, the thread that waits has to know
            self.error = error
            self._spoke.put(self)
            return
        self.attempt.tail = self._passed_on()
        self._spoke.put(self)
        end = _End(None)
        try:
            for item in items:
                self._put(item)
        except BaseException as error:
            end = _End(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
        with contextlib.suppress(Cancelled, ApiError):  # nobody listens: it was abandoned, or the request is over
            self._put(end)

    def _put(self, item: T | _End) -> None:
        while True:
            self.attempt.context.check()
            try:
                self._items.put(item, timeout=_SLICE)
            except queue.Full:
                continue
            return

    def _passed_on(self) -> Iterator[T]:
        """What the thread reads; runs on the consumer's side, and closing it stops the thread."""
        try:
            while True:
                try:
                    item = self._items.get(timeout=_SLICE)
                except queue.Empty:
                    self.attempt.context.parent.check()
                    continue
                if not isinstance(item, _End):
                    yield item
                elif item.error is None:
                    return
                else:
                    raise item.error
        finally:
            self.attempt.context.cancel.set()


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def raced(course: Course[T], port: Port, hedge: float) -> Try[T]:
    """The attempt that spoke first; raises what Course says when there is none."""
    spoke: queue.SimpleQueue[_Runner[T]] = queue.SimpleQueue()
    running: list[_Runner[T]] = []
    due = -math.inf
    try:
        while True:
            now = time.monotonic()
            if now >= due:
                if running and due > 0:
                    course.slow()
                attempt = course.next(racing=True)
                if attempt is not None:
                    running.append(_Runner(attempt, port, spoke))
                elif not running:
                    raise course.error()
                due = math.inf if attempt is None else now + attempt.pause + hedge
            try:
                runner = spoke.get(timeout=max(0.0, min(_SLICE, due - now)))
            except queue.Empty:
                course.context.check()
                continue
            running.remove(runner)
            if runner.error is None and not (runner.attempt.refuses and course.leads("safety")):
                runner.attempt.answers()
                return runner.attempt
            _lost(course, runner)
            if not running or course.ready:
                due = -math.inf
    finally:
        for loser in running:
            loser.attempt.abandon()


def _lost(course: Course[T], runner: _Runner[T]) -> None:
    error = runner.error
    if error is None:
        error = refusal(runner.attempt)
    if isinstance(error, Cancelled) or not isinstance(error, Exception):
        runner.attempt.abandon()
        raise error
    course.failed(runner.attempt, error)
