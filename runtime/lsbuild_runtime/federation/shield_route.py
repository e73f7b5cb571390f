"""`inline::route` of shields: who looks when the preferred shield cannot; it judges nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lsbuild_runtime.federation.attempt import Work
from lsbuild_runtime.federation.route import Route, settings_of
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.safety import Category, Finding, Guard, Safety, Verdict, Where

_API = "safety"
_CHARACTERS = 4
"""Characters that are reckoned as one token."""


class SafetyRoute(Route):
    """Implements shielding.Safety over candidates that stand in for each other. A verdict is one candidate's, whole."""

    def categories(self) -> tuple[Category, ...]:
        """See shielding.Safety: those of all candidates that can be opened."""
        found: dict[str, Category] = {}
        for candidate in self.candidates:
            try:
                port: Safety = self.port(_API, candidate.model)
                found |= {each.name: each for each in port.categories() if each.name not in found}
            except ApiError:
                continue
        return tuple(found.values())

    def check(self, text: str, where: Where, context: Context) -> Verdict:
        """See shielding.Safety."""

        def ask(port: Safety, within: Context) -> Iterator[Verdict]:
            yield port.check(text, where, within)

        work: Work[Verdict] = Work(_API, ask, lambda: size(text), lambda _: 0, lambda _: False, whole=True)
        (verdict,) = self.answer(work, context)
        return verdict

    def guard(self, where: Where, context: Context) -> Guard:
        """See shielding.Safety."""
        return _RouteGuard(self, where, context)


class _RouteGuard:
    """Implements shielding.Guard with the guard of one candidate after the other.

    One that cannot look hands over what it held, so that nothing leaves without a look and nothing is looked at less than
    whole.
    """

    def __init__(self, route: SafetyRoute, where: Where, context: Context) -> None:
        self._route = route
        self._where = where
        self._context = context
        self._inner: Guard | None = None
        self._left = ""
        self._earlier: tuple[Finding, ...] = ()

    @property
    def blocked(self) -> Finding | None:
        """See shielding.Guard."""
        return self._inner.blocked if self._inner is not None else None

    def feed(self, text: str) -> str:
        """See shielding.Guard; the error of Route.answer when nobody is left."""
        if not text:
            return ""
        if self._inner is None:
            return self._begun(self._left + text, last=False)
        try:
            return self._inner.feed(text)
        except Exception as error:
            return self._handed_over(error, last=False)

    def end(self) -> str:
        """See shielding.Guard."""
        if self._inner is None:
            return self._begun(self._left, last=True) if self._left else ""
        try:
            return self._inner.end()
        except Exception as error:
            return self._handed_over(error, last=True)

    def held(self) -> str:
        """See shielding.Guard."""
        return self._inner.held() if self._inner is not None else self._left

    def findings(self) -> tuple[Finding, ...]:
        """See shielding.Guard. Offsets of a later candidate count from where it took over."""
        return (*self._earlier, *(self._inner.findings() if self._inner is not None else ()))

    def _handed_over(self, error: Exception, *, last: bool) -> str:
        if isinstance(error, Cancelled) or (isinstance(error, ApiError) and error.code == "deadline_exceeded"):
            raise error
        left, self._earlier, self._inner = self.held(), self.findings(), None
        return self._begun(left, last=last)

    def _begun(self, text: str, *, last: bool) -> str:
        """What the first candidate that can look releases of ``text``; its guard goes on from there."""
        self._left = text

        def ask(port: Safety, within: Context) -> Iterator[tuple[Guard, str]]:
            guard = port.guard(self._where, within)
            released = guard.feed(text)
            yield guard, released + guard.end() if last and guard.blocked is None else released

        work: Work[tuple[Guard, str]] = Work(_API, ask, lambda: size(text), lambda _: 0, lambda _: False, whole=True)
        ((self._inner, released),) = self._route.answer(work, self._context)
        self._left = ""
        return released


def size(text: str) -> int:
    """About how many tokens a text has."""
    return len(text) // _CHARACTERS + 1


def open_safety(service: Service, root: Path, host: Host) -> SafetyRoute:  # noqa: ARG001 - the entry's shape
    """The entry for shields."""
    return SafetyRoute(service.name, settings_of(service), host.get)
