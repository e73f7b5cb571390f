"""A sum over the last seconds in constant memory; pure: the caller says what time it is."""

from __future__ import annotations

_SLOTS = 20


class Window:
    """The sum of what was added in the last ``span`` seconds.

    Time is cut into slots of a twentieth of the span; a value counts for at least the span and at most one slot longer,
    so a limit over the window is never exceeded in any span. Not safe for use from several threads.
    """

    def __init__(self, span: float) -> None:
        self._width = span / _SLOTS
        self._sums = [0.0] * (_SLOTS + 1)
        self._numbers = [-1] * (_SLOTS + 1)

    def add(self, now: float, value: float) -> None:
        """Count ``value`` at ``now``; a negative one takes back."""
        number = int(now / self._width)
        place = number % len(self._sums)
        if self._numbers[place] != number:
            self._numbers[place], self._sums[place] = number, 0.0
        self._sums[place] += value

    def total(self, now: float) -> float:
        """The sum at ``now``."""
        oldest = int(now / self._width) - _SLOTS
        return sum(value for number, value in zip(self._numbers, self._sums, strict=True) if number >= oldest)

    def clear(self) -> None:
        """Forget everything."""
        self._numbers = [-1] * len(self._numbers)
