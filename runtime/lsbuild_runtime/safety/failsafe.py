"""A shield as it stands before traffic: opened with the first text, and what becomes of a text that it cannot look at.

``fail: closed`` (the default) ends the request with status 503: a text that was not looked at is never let through.
``fail: open`` lets it through and counts it as ``lsbuild.shield.not_looked_at``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.safety import Category, Finding, Guard, Safety, Verdict, Where

if TYPE_CHECKING:
    from lsbuild_runtime.manifest import Service
    from lsbuild_runtime.ports import Host

API = "safety"


class Failsafe:
    """Implements shielding.Safety around the shield of ``service``. Safe for use from several threads."""

    def __init__(self, service: Service, host: Host) -> None:
        self.name = service.name
        self.open = service.config.get("fail") == "open"
        self._host = host

    def categories(self) -> tuple[Category, ...]:
        """See shielding.Safety."""
        return self._port().categories()

    def check(self, text: str, where: Where, context: Context) -> Verdict:
        """See shielding.Safety."""
        within = apart(context)
        with context.watch.span("safety.check", shield=self.name, where=where) as span:
            try:
                verdict = self._port().check(text, where, within)
            except Exception as error:
                self.failed(error, context)
                return Verdict((), text)
            span.set(findings=len(verdict.findings), blocked=verdict.blocked is not None)
            return verdict

    def guard(self, where: Where, context: Context) -> Guard:
        """See shielding.Safety."""
        return _Guard(self, where, context)

    def begin(self, where: Where, context: Context) -> Guard:
        """The shield's own guard."""
        return self._port().guard(where, apart(context))

    def failed(self, error: Exception, context: Context) -> None:
        """It could not look: count it, or raise ApiError 503. The request's own end is raised as it is."""
        own = isinstance(error, Cancelled) or (isinstance(error, ApiError) and error.code == "deadline_exceeded")
        if own:
            raise error
        context.watch.count("lsbuild.shield.not_looked_at", 1, shield=self.name)
        if not isinstance(error, ApiError):  # a bug: the log wants its place
            with context.watch.span("safety.failed", shield=self.name) as span:
                span.set(error=error)
        if self.open:
            return
        said = error.message if isinstance(error, ApiError) else f"internal error ({type(error).__name__})"
        raise ApiError(
            503,
            f"shield {self.name!r} could not look at the text, so it is not passed on: {said}",
            type="server_error",
            code="shield_unavailable",
            retry_after=error.retry_after if isinstance(error, ApiError) else None,
        ) from error

    def _port(self) -> Safety:
        port: Safety = self._host.get(API, self.name)
        return port


class _Guard:
    """Implements shielding.Guard. When the shield fails open, what it held is released and a new guard goes on."""

    def __init__(self, shield: Failsafe, where: Where, context: Context) -> None:
        self._shield = shield
        self._where = where
        self._context = context
        self._inner: Guard | None = None
        self._earlier: tuple[Finding, ...] = ()

    @property
    def blocked(self) -> Finding | None:
        """See shielding.Guard."""
        return self._inner.blocked if self._inner is not None else None

    def feed(self, text: str) -> str:
        """See shielding.Guard."""
        try:
            return self._guard().feed(text) if text else ""
        except Exception as error:
            return self._failed(error, text)

    def end(self) -> str:
        """See shielding.Guard."""
        try:
            return self._inner.end() if self._inner is not None else ""
        except Exception as error:
            return self._failed(error, "")

    def held(self) -> str:
        """See shielding.Guard."""
        return self._inner.held() if self._inner is not None else ""

    def findings(self) -> tuple[Finding, ...]:
        """See shielding.Guard. Offsets after a failure count from where a new guard began."""
        return (*self._earlier, *(self._inner.findings() if self._inner is not None else ()))

    def _guard(self) -> Guard:
        if self._inner is None:
            self._inner = self._shield.begin(self._where, self._context)
        return self._inner

    def _failed(self, error: Exception, text: str) -> str:
        self._shield.failed(error, self._context)
        if self._inner is None:
            return text
        rest, self._earlier, self._inner = self._inner.held(), self.findings(), None
        return rest


def apart(context: Context) -> Context:
    """``context`` with a trail of its own: which shields a route asked says nothing of the model that answers."""
    return replace(context, trail=[])
