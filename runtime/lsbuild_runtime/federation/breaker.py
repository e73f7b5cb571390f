"""A circuit breaker: stops asking what keeps failing, and asks once now and then whether it works again; no I/O.

The states are Nygard's (*Release It!*): closed, open, half-open.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from lsbuild_runtime.federation.window import Window

State = Literal["closed", "open", "half-open"]


class Limits(Struct, frozen=True):
    """When it opens: ``ratio`` of at least ``calls`` calls in the last ``window`` seconds failed; ``open`` is for how long."""

    ratio: float = 0.5
    window: float = 30.0
    calls: int = 5
    open: float = 15.0


class Breaker:
    """Safe for use from several threads. ``clock`` gives seconds that never go back.

    A call that was let through gets a ticket and is reported with it; the report of a call that began before the state
    last changed says nothing about the present and is passed over.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._calls = Window(limits.window)
        self._failed = Window(limits.window)
        self._ticket = 1
        self._until = 0.0
        self._probing = False
        self.state: State = "closed"

    def admit(self) -> int | None:
        """A ticket, or None when nobody may call now: it is open, or half-open and the one probe is under way."""
        if self.state == "closed":
            return self._ticket
        with self._lock:
            return self._probe()

    def _probe(self) -> int | None:
        if self.state == "open" and self._clock() >= self._until:
            self._become("half-open")
        if self.state == "half-open" and not self._probing:
            self._probing = True
            return self._ticket
        return self._ticket if self.state == "closed" else None

    def wait(self) -> float:
        """Seconds until a probe may be sent; 0 when one is under way or none is needed."""
        return max(0.0, self._until - self._clock()) if self.state == "open" else 0.0

    def succeeded(self, ticket: int) -> None:
        """A call worked: the circuit closes if it was the probe."""
        with self._lock:
            if ticket != self._ticket:
                return
            if self.state == "half-open":
                self._become("closed")
            self._calls.add(self._clock(), 1)

    def failed(self, ticket: int) -> None:
        """A call failed: the circuit opens if it was the probe, or if too many did."""
        with self._lock:
            if ticket != self._ticket:
                return
            now = self._clock()
            self._calls.add(now, 1)
            self._failed.add(now, 1)
            calls = self._calls.total(now)
            many = calls >= self._limits.calls and self._failed.total(now) >= self._limits.ratio * calls
            if many or self.state == "half-open":
                self._become("open")
                self._until = now + self._limits.open

    def abandoned(self, ticket: int) -> None:
        """A call ended before anything was known of it; if it was the probe, another may be sent."""
        with self._lock:
            if ticket == self._ticket:
                self._probing = False

    def _become(self, state: State) -> None:
        self.state = state
        self._ticket += 1
        self._probing = False
        self._calls.clear()
        self._failed.clear()
