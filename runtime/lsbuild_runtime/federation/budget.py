"""What one candidate may cost: requests and tokens in a minute and a day, tokens under way; no I/O.

The counts are this process's own and begin at zero with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, NamedTuple

from msgspec import Struct

from lsbuild_runtime.federation.window import Window

_MINUTE, _DAY = 60.0, 86400.0


class Limits(Struct, frozen=True):
    """None is no limit. Tokens are those of prompt and answer together."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_in_flight: int | None = None


class Spent(Exception):
    """A limit is reached. ``failure``: a day's budget is a matter of cost, any other passes soon."""

    def __init__(self, limit: str, failure: Literal["cost", "overload"]) -> None:
        super().__init__(f"its budget is spent ({limit})")
        self.failure = failure


class _Meter(NamedTuple):
    name: str
    most: int
    window: Window
    tokens: bool
    failure: Literal["cost", "overload"]


class Budget:
    """Safe for use from several threads. ``clock`` gives seconds that never go back."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._meters = [
            _Meter(
                name, most, Window(_DAY if day else _MINUTE), name.startswith("tokens"), "cost" if day else "overload"
            )
            for name in ("requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day")
            for most in (getattr(limits, name),)
            for day in (name.endswith("day"),)
            if most is not None
        ]
        self._room = limits.tokens_in_flight
        self._under_way = 0
        self.free = not self._meters and self._room is None
        """Whether nothing is limited."""

    def take(self, tokens: int) -> None:
        """Count one request of about ``tokens`` tokens as begun; raises Spent, and counts nothing, when it does not fit."""
        with self._lock:
            now = self._clock()
            for meter in self._meters:
                if meter.window.total(now) + (tokens if meter.tokens else 1) > meter.most:
                    raise Spent(meter.name, meter.failure)
            if self._room is not None and self._under_way + tokens > self._room:
                raise Spent("tokens_in_flight", "overload")
            for meter in self._meters:
                meter.window.add(now, tokens if meter.tokens else 1)
            self._under_way += tokens

    def settle(self, taken: int, used: int) -> None:
        """The request that took ``taken`` tokens has ended and used ``used``."""
        with self._lock:
            self._under_way -= taken
            now = self._clock()
            for meter in self._meters:
                if meter.tokens:
                    meter.window.add(now, used - taken)
