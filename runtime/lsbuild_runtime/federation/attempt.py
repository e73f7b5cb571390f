"""One attempt: a candidate is asked within its own time; what became of it is told once to all who keep count."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from lsbuild_runtime.federation.candidate import Candidate, Permit
from lsbuild_runtime.federation.failures import ATTEMPT_TIMEOUT, failure_of
from lsbuild_runtime.http import ApiError, Attempt, Cancelled, Context

T = TypeVar("T")
_SLICE = 0.25


class Work(Generic[T]):
    """What a route has to do for one request, whoever does it.

    ``ask(port, context)`` begins it on a candidate's port. ``size()`` estimates its tokens, ``used(item)`` reads those
    that an item reports (0: none). ``refused(item)`` says of the first item whether it is a refusal of the content.
    ``whole``: nothing leaves before everything is there, so that a failure is silent to the end.
    """

    __slots__ = ("api", "ask", "refused", "size", "used", "whole")

    def __init__(
        self,
        api: str,
        ask: Callable[[Any, Context], Iterator[T]],
        size: Callable[[], int],
        used: Callable[[T], int],
        refused: Callable[[T], bool],
        *,
        whole: bool,
    ) -> None:
        self.api = api
        self.ask = ask
        self.size = size
        self.used = used
        self.refused = refused
        self.whole = whole


class Within(Context, kw_only=True):
    """The context of one attempt: it ends with the request's own, and at its own deadline before that.

    The deadline is lifted when the first token came; the flag may be the attempt's own (a race has losers).
    """

    parent: Context
    seconds: float = 0.0

    def check(self) -> None:
        """As in Context; the attempt's own end has a code of its own."""
        self.parent.check()
        if self.cancel.is_set():
            raise Cancelled
        if time.monotonic() > self.deadline:
            raise ApiError(408, f"no first token within {self.seconds:g} s", type="timeout_error", code=ATTEMPT_TIMEOUT)


class Try(Generic[T]):
    """A permitted attempt of ``candidate``, to begin after ``pause`` seconds; the ``number``-th retry, from 0.

    ``begin`` may run on another thread; everything else is the consumer's. Exactly one of ``answers``, ``failed`` and
    ``abandon`` ends the wait for the first token, and tells breaker, budget, trail and watch.
    """

    def __init__(
        self,
        candidate: Candidate,
        permit: Permit,
        work: Work[T],
        context: Within,
        *,
        pause: float = 0.0,
        number: int = 0,
    ) -> None:
        self.candidate = candidate
        self.number = number
        self.pause = pause
        self.context = context
        self.head: list[T] = []
        self.tail: Iterator[T] = iter(())
        """What follows ``head``: what ``begin`` returned, or what another thread reads of that."""
        self._permit = permit
        self._work = work
        self._told = False
        self._record = Attempt(candidate.model)
        self._start = time.monotonic()
        context.trail.append(self._record)

    def begin(self, port: Callable[[str, str], Any]) -> Iterator[T]:
        """Ask, and wait for the first token, which goes to ``head``; what follows it is returned.

        Raises what the candidate raises, or ApiError 408 in its own time.
        """
        context, work, seconds = self.context, self._work, self.candidate.settings.timeout
        if self.pause:
            self._wait()
        if seconds is not None:
            context.seconds = seconds
            context.deadline = min(context.parent.deadline, time.monotonic() + seconds)
        items = work.ask(port(work.api, self.candidate.model), context)
        try:
            self.head.append(next(items))
        except StopIteration:
            raise ApiError(
                502, f"model {self.candidate.model!r} gave no answer", type="server_error", code="upstream_error"
            ) from None
        context.deadline = math.inf  # the request's own still holds
        if work.whole:
            self.head.extend(items)
        return items

    def _wait(self) -> None:
        until = time.monotonic() + self.pause
        while (left := until - time.monotonic()) > 0:
            self.context.check()
            self.context.cancel.wait(min(_SLICE, left))

    @property
    def refuses(self) -> bool:
        """Whether it answered with a refusal of the content."""
        return self._work.refused(self.head[0])

    def answers(self) -> None:
        """It is the one whose answer is passed on."""
        self.candidate.breaker.succeeded(self._permit.ticket)
        self._tell("ok")

    def failed(self, error: Exception) -> None:
        """It broke before its first token, or refused."""
        failure = failure_of(error)
        if failure is None and isinstance(error, ApiError) and error.code == "deadline_exceeded":
            failure = "timeout"  # no time is left to ask another, but it was this one that used it up
        if failure is None:  # the request's own fault: the candidate did its part
            self.candidate.breaker.succeeded(self._permit.ticket)
        else:
            self.candidate.failed(self._permit, failure, error)
        self._tell(failure or "refused", error)
        self._close(0)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if not self._told:
            self.candidate.breaker.abandoned(self._permit.ticket)
            self._tell("cancelled")
            self._close(0)

    def items(self) -> Iterator[T]:
        """The answer. A failure after its beginning is raised as an error that says so; to be called after ``answers``."""
        used = 0
        try:
            for item in self.head:
                used = self._work.used(item) or used
                yield item
            for item in self.tail:
                used = self._work.used(item) or used
                yield item
        except Exception as error:
            raise self._broke_off(error) from error
        finally:
            self._close(used or self._permit.tokens)

    def _broke_off(self, error: Exception) -> Exception:
        failure = failure_of(error)
        if isinstance(error, Cancelled) or failure is None:
            return error
        self.candidate.failed(self._permit, failure, error)
        self._record.outcome = failure
        self._count(failure)
        if not isinstance(error, ApiError):
            return error
        return ApiError(
            error.status,
            f"the answer of model {self.candidate.model!r} broke off: {error.message}",
            type=error.type,
            code=error.code,
        )

    def _close(self, used: int) -> None:
        if self.context.cancel is not self.context.parent.cancel:
            self.context.cancel.set()
        close = getattr(self.tail, "close", None)
        if close is not None:
            close()
        self.candidate.settle(self._permit, used)

    def _tell(self, outcome: str, error: Exception | None = None) -> None:
        self._told = True
        self._record.outcome = outcome
        self._record.ms = round((time.monotonic() - self._start) * 1000, 3)
        watch = self.context.parent.watch
        # Attempts of a race overlap, which spans of one request must not; so each is told when its outcome is known.
        with watch.span(f"attempt {self.candidate.model}", **{"gen_ai.request.model": self.candidate.model}) as span:
            span.set(**{"lsbuild.outcome": outcome, "lsbuild.attempt.ms": self._record.ms})
            if error is not None and not isinstance(error, ApiError):
                span.set(error=error)
        self._count(outcome)

    def _count(self, outcome: str) -> None:
        attributes = {"gen_ai.request.model": self.candidate.model, "lsbuild.outcome": outcome}
        self.context.parent.watch.count("lsbuild.route.attempts", 1, **attributes)


def refusal(attempt: Try[Any]) -> ApiError:
    """The failure of an attempt that ``refuses``."""
    return ApiError(400, f"model {attempt.candidate.model!r} refuses this content", code="content_filter")
