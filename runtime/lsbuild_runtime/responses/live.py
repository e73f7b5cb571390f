"""The responses that are worked at in this process just now: how to stop one, and its events for whoever follows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from lsbuild_runtime.http import Context

_LOOK_SECONDS = 0.5
"""How long a follower waits before it looks whether its client is still there."""


class Tape:
    """The events of one response as JSON, in order; one thread adds, any number follow."""

    def __init__(self) -> None:
        self._events: list[tuple[int, bytes]] = []
        self._changed = threading.Condition()
        self._saved = 0
        self._over = False

    def add(self, number: int, event: bytes) -> None:
        """One more event."""
        with self._changed:
            self._events.append((number, event))
            self._changed.notify_all()

    def unsaved(self) -> list[bytes]:
        """The events since the last ``saved``."""
        return [event for _, event in self._events[self._saved :]]

    def saved(self) -> None:
        """All events so far are kept elsewhere too."""
        self._saved = len(self._events)

    def end(self) -> None:
        """There will be no more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def follow(self, after: int, context: Context) -> Iterator[tuple[int, bytes]]:
        """Events with a larger number than ``after``, as they come, until the last. Raises as Context.check does."""
        place = 0
        while True:
            with self._changed:
                while place == len(self._events) and not self._over:
                    self._changed.wait(_LOOK_SECONDS)
                    context.check()
                ready, over = self._events[place:], self._over
            place += len(ready)
            yield from ((number, event) for number, event in ready if number > after)
            if over and place == len(self._events):
                return


class Live:
    """Who works at what in this process. Safe for use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[str, Context] = {}
        self._tapes: dict[str, Tape] = {}

    def begin(self, response: str, context: Context, tape: Tape | None) -> None:
        """It is worked at from now on."""
        with self._lock:
            self._contexts[response] = context
            if tape is not None:
                self._tapes[response] = tape

    def end(self, response: str) -> None:
        """It is not any more."""
        with self._lock:
            self._contexts.pop(response, None)
            tape = self._tapes.pop(response, None)
        if tape is not None:
            tape.end()

    def stop(self, response: str) -> None:
        """Stop the work at it, if it is here."""
        with self._lock:
            context = self._contexts.get(response)
        if context is not None:
            context.cancel.set()

    def tape(self, response: str) -> Tape | None:
        """Its events, if it is worked at here."""
        with self._lock:
            return self._tapes.get(response)

    def __len__(self) -> int:
        return len(self._contexts)
