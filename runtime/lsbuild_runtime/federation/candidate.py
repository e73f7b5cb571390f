"""One candidate of a route: whether it may be asked now, and what is known of its health and its costs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from lsbuild_runtime.federation import breaker, budget
from lsbuild_runtime.federation.failures import USUAL, Failure
from lsbuild_runtime.http import ApiError

LONGEST_REST = 60.0
"""Seconds that a candidate is left alone at most, whatever its Retry-After says."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
_ITS_OWN_WORD = ("upstream_rate_limit", "upstream_overloaded")
"""Codes with which another server names the time to wait. A full queue of this server is asked again: that costs nothing."""


class Settings(Struct, frozen=True):
    """What the spec says of one candidate; see ``route`` there. Times in seconds."""

    model: str
    on: tuple[Failure, ...] = USUAL
    weight: float | None = None
    timeout: float | None = None
    retries: int = 0
    budget: budget.Limits = budget.Limits()


class Permit(NamedTuple):
    """One attempt that may begin: the breaker's ticket, and the tokens that were taken from the budget."""

    ticket: int
    tokens: int


class Skipped(Exception):
    """The candidate may not be asked now; ``wait`` is about how many seconds that lasts, 0 when nobody knows."""

    def __init__(self, why: str, failure: Failure, wait: float = 0.0) -> None:
        super().__init__(why)
        self.failure = failure
        self.wait = wait


class Candidate:
    """Safe for use from several threads. ``clock`` gives seconds that never go back."""

    def __init__(self, settings: Settings, limits: breaker.Limits, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.model = settings.model
        self.weight = settings.weight
        self.leads = frozenset(settings.on)
        self.breaker = breaker.Breaker(limits, clock)
        self.budget = budget.Budget(settings.budget, clock)
        self._clock = clock
        self._rest_until = 0.0
        self._last: Failure = "error"

    def admit(self, size: Callable[[], int], pause: float = 0.0) -> Permit:
        """Leave to begin an attempt ``pause`` seconds from now; ``size`` estimates its tokens. Raises Skipped."""
        if self._rest_until and (rest := self._rest_until - self._clock() - pause) > 0:
            raise Skipped(f"it asked to be left alone for {rest:.0f} s more", "overload", rest)
        ticket = self.breaker.admit()
        if ticket is None:
            wait = self.breaker.wait()
            raise Skipped("it failed too often and is left alone for a while", self._last, wait)
        tokens = 0 if self.budget.free else size()
        try:
            if not self.budget.free:
                self.budget.take(tokens)
        except budget.Spent as spent:
            self.breaker.abandoned(ticket)
            raise Skipped(str(spent), spent.failure) from None
        return Permit(ticket, tokens)

    def failed(self, permit: Permit, failure: Failure, error: Exception) -> None:
        """The attempt came to ``failure``. Only what speaks against the candidate itself counts against it."""
        if failure in ("error", "timeout"):
            self._last = failure
            self.breaker.failed(permit.ticket)
        else:
            self.breaker.abandoned(permit.ticket)
        if isinstance(error, ApiError) and error.retry_after and error.code in _ITS_OWN_WORD:
            self._rest_until = self._clock() + min(error.retry_after, LONGEST_REST)

    def settle(self, permit: Permit, used: int) -> None:
        """The attempt is over and used ``used`` tokens."""
        if not self.budget.free:
            self.budget.settle(permit.tokens, used)


def pause_before(retry: int, retry_after: int | None, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait before the ``retry``-th retry (from 0): full jitter (Brooker, AWS Architecture Blog, 2015).

    After a Retry-After never less than it says.
    """
    jitter = chance() * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**retry)
    return jitter if retry_after is None else retry_after + chance() * _FIRST_PAUSE
