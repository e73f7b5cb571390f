"""How many requests of clients are under way, so that work in the background can wait for a quiet moment."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Traffic:
    """Safe for use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0

    def come(self) -> None:
        """A request begins."""
        with self._changed:
            self._inside += 1

    def go(self) -> None:
        """A request ended: its answer is sent, to the last byte of a stream."""
        with self._changed:
            self._inside -= 1
            if not self._inside:
                self._changed.notify_all()

    def quiet(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> bool:
        """Wait until no request is under way, at most ``seconds``, or until ``enough()``; whether it is quiet."""
        with self._changed:
            self._changed.wait_for(lambda: not self._inside or enough(), seconds)
            return not self._inside

    def nudge(self) -> None:
        """Whoever waits looks at its ``enough`` again."""
        with self._changed:
            self._changed.notify_all()
