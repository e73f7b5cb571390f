"""One worker thread per model: a bounded queue of jobs, deadlines, cancellation; it knows nothing of models or tokens.

A job is an iterator that the worker pulls and whose items the caller reads from a ``Stream``. Jobs run one after the
other, one stream at a time. Continuous batching fits behind the same ``submit``: it would pull several at once.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Generic, TypeVar

from msgspec import Struct, field

from lsbuild_runtime.http import ApiError, Cancelled, Context

T = TypeVar("T")
Check = Callable[[], None]
"""Raises Cancelled or ApiError 408 when a job need not go on; asked before every token and every prefill chunk."""
Start = Callable[[Check], Iterator[T]]

_POLL_S = 0.2
"""How soon a caller that waits in the queue notices that its request was cancelled."""
_JOIN_S = 5.0


class _Item(Struct, Generic[T]):
    """What crosses the threads: a value, the error that ended the job, or (both None) its end."""

    value: T | None = None
    error: BaseException | None = None


class _Job(Struct, Generic[T], eq=False):
    start: Start[T]
    context: Context
    out: queue.SimpleQueue[_Item[T]] = field(default_factory=queue.SimpleQueue)
    closed: bool = False
    # The observer may keep its current span in a context variable: the work belongs below the caller's span.
    vars: contextvars.Context = field(default_factory=contextvars.copy_context)

    def check(self) -> None:
        if self.closed:
            raise Cancelled
        self.context.check()

    def run(self) -> None:
        try:
            self.check()
            work = self.start(self.check)
            with closing(work):  # type: ignore[type-var]  # a generator; Iterator has no close
                for value in work:
                    self.out.put(_Item(value))
        except BaseException as error:
            self.out.put(_Item(error=error))
        else:
            self.out.put(_Item())


class Stream(Iterator[T]):
    """What a caller reads. ``close``, also called when the stream is dropped, stops the work before its next token."""

    def __init__(self, job: _Job[T]) -> None:
        self._job = job
        self._ended = False

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        item = self._wait()
        if item.value is not None:
            return item.value
        self._ended = True
        if item.error is not None:
            raise item.error
        raise StopIteration

    def _wait(self) -> _Item[T]:
        while True:
            try:
                return self._job.out.get(timeout=_POLL_S)
            except queue.Empty:
                self._job.check()

    def close(self) -> None:
        """Stop the work; may be called more than once and from any thread."""
        self._job.closed = True
        self._ended = True

    def __del__(self) -> None:
        self._job.closed = True


class _State(Struct, eq=False):
    """What the worker shares with its Scheduler; apart from it, so that a dropped Scheduler ends its thread."""

    wake: threading.Condition = field(default_factory=threading.Condition)
    waiting: deque[_Job[Any]] = field(default_factory=deque)
    running: _Job[Any] | None = None
    stopped: bool = False
    mean_s: float = 1.0
    thread: threading.Thread | None = None


class Scheduler:
    """Runs jobs in order on a thread of its own, which the first job starts."""

    def __init__(self, name: str, limit: int) -> None:
        """``limit`` jobs may wait besides the running one."""
        self._name = name
        self._limit = limit
        self._state = _State()
        # A daemon thread inside onnxruntime while the interpreter goes down can crash: end it first.
        self.close = weakref.finalize(self, _stop, self._state)

    def submit(self, start: Start[T], context: Context) -> Stream[T]:
        """Queue ``start(check)``; raises ApiError 429 with an estimated Retry-After when the queue is full."""
        job = _Job(start, context)
        state = self._state
        with state.wake:
            if state.stopped:
                raise ApiError(503, f"model {self._name!r} is shutting down", type="server_error", code="shutting_down")
            _forget_closed(state)
            if len(state.waiting) + (state.running is not None) > self._limit:
                raise self._full()
            state.waiting.append(job)
            if state.thread is None:
                state.thread = threading.Thread(target=_work, args=(state,), name=f"model-{self._name}", daemon=True)
                state.thread.start()
            state.wake.notify()
        return Stream(job)

    def _full(self) -> ApiError:
        waiting = len(self._state.waiting)
        after = round(self._state.mean_s * (waiting + 1))
        return ApiError(
            429,
            f"model {self._name!r} is busy: {waiting} requests wait already and its queue holds {self._limit}; try later",
            type="rate_limit_error",
            code="queue_full",
            retry_after=min(60, max(1, after)),
        )


def _forget_closed(state: _State) -> None:
    kept = [job for job in state.waiting if not (job.closed or job.context.cancel.is_set())]
    if len(kept) < len(state.waiting):
        state.waiting = deque(kept)


def _work(state: _State) -> None:
    while True:
        with state.wake:
            state.running = None
            while not (state.waiting or state.stopped):
                state.wake.wait()
            if state.stopped:
                return
            job = state.running = state.waiting.popleft()
        began = time.monotonic()
        job.vars.run(job.run)
        state.mean_s += 0.2 * (time.monotonic() - began - state.mean_s)
        del job


def _stop(state: _State) -> None:
    """Close every job and wait for the worker; callers that still read get Cancelled."""
    with state.wake:
        state.stopped = True
        for job in [*state.waiting, *([state.running] if state.running else [])]:
            job.closed = True
        state.waiting.clear()
        state.wake.notify_all()
    if state.thread is not None and state.thread is not threading.current_thread():
        state.thread.join(_JOIN_S)
