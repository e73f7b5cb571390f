"""Says that the time is over for a request that does not look at the clock itself, just before Lambda ends the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LAST_SECONDS = 0.25
"""What is kept of the function's time for saying so; less than ``main.MARGIN_SECONDS``, by which requests look themselves."""


class Turn:
    """The right to answer one event, which one of two threads gets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether it was still to be had."""
        return self._lock.acquire(blocking=False)


@contextmanager
def last_word(seconds: float, say: Callable[[], None]) -> Iterator[Turn]:
    """Call ``say`` after ``seconds``, in another thread, unless the turn was taken before.

    The block ends when ``say`` has, if it was called: the event is answered then, and the next may be asked for.
    """
    turn = Turn()

    def late() -> None:
        if turn.take():
            say()

    timer = threading.Timer(max(0.0, seconds), late)
    timer.daemon = True
    timer.start()
    try:
        yield turn
    finally:
        timer.cancel()
        if not turn.take():
            timer.join()
