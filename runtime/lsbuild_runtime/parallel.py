"""Work that is done side by side: a few threads, results in the order of the work; it knows nothing of what is done."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from lsbuild_runtime.http import Context

T = TypeVar("T")
_SLICE = 0.25
"""Seconds between two looks at the context."""


class _Job(Generic[T]):
    """One piece of work and the place for its result."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._done: queue.SimpleQueue[T | _Raised] = queue.SimpleQueue()

    def run(self) -> None:
        """Do the work, whatever comes of it."""
        try:
            self._done.put(self._work())
        except BaseException as error:  # whatever it is, who waits has to know
            self._done.put(_Raised(error))

    def result(self, context: Context) -> T:
        """Wait for the result, and raise what the work raised; Cancelled or a 408 ApiError when it need not come."""
        while True:
            context.check()
            try:
                found = self._done.get(timeout=_SLICE)
            except queue.Empty:
                continue
            if isinstance(found, _Raised):
                raise found.error
            return found


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def in_order(works: Sequence[Callable[[], T]], width: int, context: Context) -> Iterator[T]:
    """The results of ``works`` in their order, at most ``width`` under way at a time.

    Nobody waits longer than the context allows: work that does not come back is left to its thread, and what has not
    begun when the iterator ends or is closed never does. An error is raised in its place.
    """
    jobs = [_Job(work) for work in works]
    waiting = iter(jobs)
    lock = threading.Lock()
    over = threading.Event()

    def run() -> None:
        while True:
            with lock:
                job = None if over.is_set() else next(waiting, None)
            if job is None:
                return
            job.run()

    for _ in range(min(width, len(jobs))):
        threading.Thread(target=run, name="work", daemon=True).start()
    try:
        for job in jobs:
            yield job.result(context)
    finally:
        over.set()
