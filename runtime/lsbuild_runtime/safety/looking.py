"""Single texts behind shields: what an agent's loop looks at before it reads, calls and answers; it runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsbuild_runtime.http import Context
from lsbuild_runtime.safety import Finding, Where
from lsbuild_runtime.safety.failsafe import API, Failsafe

if TYPE_CHECKING:
    from lsbuild_runtime.manifest import Service
    from lsbuild_runtime.ports import Host


class Blocked(Exception):
    """A shield blocks a text; ``finding.message`` is what a client may be told."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.rule)
        self.finding = finding


class Look:
    """Some shields, asked in their order. Without any it lets every text through. Safe for use from several threads."""

    def __init__(self, shields: Sequence[Failsafe]) -> None:
        self.shields = tuple(shields)

    def look(self, text: str, where: Where, context: Context) -> str:
        """The text as it may be passed on, with what is redacted replaced.

        Raises Blocked at the first shield that blocks it; later ones are not asked. ApiError 503 when a shield cannot look
        and fails closed.
        """
        for shield in self.shields:
            verdict = shield.check(text, where, context)
            if verdict.blocked is not None:
                raise Blocked(verdict.blocked)
            text = verdict.text
        return text


def before(service: Service, host: Host) -> Look:
    """The shields that stand before ``service`` (the ``safety/NAME`` of its needs), in the order of the build."""
    prefix = f"{API}/"
    names = [need.removeprefix(prefix) for need in service.needs if need.startswith(prefix)]
    found = [host.find((API,), name) for name in names]
    return Look([Failsafe(each, host) for each in found if each is not None])
