"""The course of one request through the candidates: who is next, what failed so far, and what to say in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from lsbuild_runtime.federation.attempt import Try, Within, Work
from lsbuild_runtime.federation.candidate import Candidate, Skipped, pause_before
from lsbuild_runtime.federation.failures import AGAIN, ATTEMPT_TIMEOUT, Failure, failure_of
from lsbuild_runtime.http import ApiError, Context, Silence

T = TypeVar("T")
PATIENCE = 1.0
"""Seconds that a retry may wait while another candidate could answer at once."""


class _Fault(NamedTuple):
    model: str
    error: Exception


class Course(Generic[T]):
    """One request; not safe for use from several threads. ``candidates`` are in the order of this request."""

    def __init__(self, name: str, candidates: Sequence[Candidate], work: Work[T], context: Context) -> None:
        self.name = name
        self.work = work
        self.context = context
        self._left = list(candidates)
        self._again: list[tuple[Candidate, int, float]] = []
        self._failures: set[Failure] = set()
        self._faults: list[_Fault] = []
        self._skipped: list[tuple[str, Skipped]] = []

    def next(self, *, racing: bool = False) -> Try[T] | None:
        """The next attempt, or None when there is nobody (or, until something else fails, nobody yet)."""
        while (found := self._take()) is not None:
            candidate, number, pause = found
            try:
                permit = candidate.admit(self.work.size, pause)
            except Skipped as skipped:
                self._skipped.append((candidate.model, skipped))
                self._failures.add(skipped.failure)
            else:
                return Try(candidate, permit, self.work, self._within(racing), pause=pause, number=number)
        return None

    def _take(self) -> tuple[Candidate, int, float] | None:
        if self._again:
            return self._again.pop()
        for candidate in self._left:
            if self._wanted(candidate):
                self._left.remove(candidate)
                return candidate, 0, 0.0
        return None

    def _wanted(self, candidate: Candidate) -> bool:
        return not self._failures or not self._failures.isdisjoint(candidate.leads)

    def _within(self, racing: bool) -> Within:
        context = self.context
        return Within(
            request_id=context.request_id,
            deadline=context.deadline,
            cancel=threading.Event() if racing else context.cancel,
            watch=Silence() if racing else context.watch,
            affinity=context.affinity,
            trail=context.trail,
            parent=context,
        )

    def leads(self, failure: Failure) -> bool:
        """Whether somebody is left who takes over after ``failure``."""
        return any(failure in candidate.leads for candidate in self._left)

    @property
    def ready(self) -> bool:
        """Whether somebody may be asked at once, after what failed so far."""
        return bool(self._again) or any(self._wanted(candidate) for candidate in self._left)

    def slow(self) -> None:
        """Those who were asked are slow: for a race that is as good as a timeout."""
        self._failures.add("timeout")

    def failed(self, attempt: Try[T], error: Exception) -> None:
        """Take note. Raises ``error`` itself when it is the request's own fault."""
        attempt.failed(error)
        failure = failure_of(error)
        if failure is None:
            raise error
        self._failures.add(failure)
        self._faults.append(_Fault(attempt.candidate.model, error))
        if attempt.number >= attempt.candidate.settings.retries or failure not in AGAIN:
            return
        pause = pause_before(attempt.number, error.retry_after if isinstance(error, ApiError) else None)
        in_time = time.monotonic() + pause < self.context.deadline
        if in_time and (pause <= PATIENCE or not self.ready):
            self._again.append((attempt.candidate, attempt.number + 1, pause))

    def error(self) -> Exception:
        """What to answer when nobody is left: the last failure, with what every candidate said.

        A real failure goes before "left alone for a while"; the time to wait is that of the candidate that is back first.
        """
        waits = [fault.error.retry_after for fault in self._faults if isinstance(fault.error, ApiError)]
        waits += [int(skipped.wait) + 1 for _, skipped in self._skipped if skipped.wait]
        after = min((wait for wait in waits if wait), default=None)
        only = self._faults[0].error if len(self._faults) == 1 and not self._skipped else None
        if only is not None and not (isinstance(only, ApiError) and only.code == ATTEMPT_TIMEOUT):
            return only
        said = [f"{model}: {_words(error)}" for model, error in (*self._faults, *self._skipped)]
        message = f"no candidate of {self.name!r} could answer: {'; '.join(dict.fromkeys(said))}"
        base = next((fault.error for fault in reversed(self._faults) if isinstance(fault.error, ApiError)), None)
        if base is not None:
            status = 503 if base.code == ATTEMPT_TIMEOUT else base.status  # 408 would blame the client
            return ApiError(status, message, type=base.type, param=base.param, code=base.code, retry_after=after)
        return ApiError(503, message, type="server_error", code="no_candidate", retry_after=after)


Port = Callable[[str, str], Any]
"""``Host.get``."""


def _words(error: Exception) -> str:
    return str(error)[:300] if isinstance(error, ApiError | Skipped) else f"internal error ({type(error).__name__})"
