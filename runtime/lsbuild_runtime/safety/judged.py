"""A shield that judges whole texts, as the Safety port: what its judge sees becomes findings; it asks no model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Placement
from lsbuild_runtime.safety import Action, Category, Finding, Guard, Verdict, Where
from lsbuild_runtime.safety.sentences import Passing, PiecesGuard, every

EVERYWHERE: tuple[Where, ...] = ("input", "output", "tool_args", "retrieved")


class Mark(Struct, frozen=True):
    """What a judge says of one category: how sure it is (0..1), and whether that is enough."""

    category: str
    score: float
    found: bool


class Judge(Protocol):
    """What looks at a text. It may be used from several threads."""

    def categories(self) -> tuple[Category, ...]:
        """What it looks for."""
        ...

    def judge(self, text: str, where: Where, context: Context) -> Sequence[Mark]:
        """One mark for each category that it has a word on. Raises when it cannot say: no mark is never a guess."""
        ...


class Outcome(Struct, frozen=True):
    """What a category leads to."""

    action: Action = "block"
    message: str = ""


class Settings(Struct, frozen=True):
    """What the spec says of any such shield: the texts it looks at, what categories lead to, and how a stream is cut."""

    where: tuple[Where, ...] = EVERYWHERE
    actions: Mapping[str, Action] = {}
    every: int | None = None


class Judged:
    """Implements shielding.Safety around ``judge``. ``outcomes`` by category; what is in none of them is blocked."""

    def __init__(
        self, name: str, judge: Judge, settings: Settings, outcomes: Mapping[str, Outcome] | None = None
    ) -> None:
        self._name = name
        self.judge = judge
        self._where = frozenset(settings.where)
        self._pieces = every(settings.every)
        self._outcomes = {
            **(outcomes or {}),
            **{
                category: Outcome(action, (outcomes or {}).get(category, Outcome()).message)
                for category, action in settings.actions.items()
            },
        }

    @property
    def placement(self) -> Placement | None:
        """Where its model runs, where it has one of its own that says so."""
        found: Placement | None = getattr(self.judge, "placement", None)
        return found

    def categories(self) -> tuple[Category, ...]:
        """See shielding.Safety."""
        return self.judge.categories()

    def check(self, text: str, where: Where, context: Context) -> Verdict:
        """See shielding.Safety. A text that is redacted is replaced as a whole: a judge does not say which words it meant."""
        context.check()
        if where not in self._where or not text.strip():
            return Verdict((), text)
        marks = self.judge.judge(text, where, context)
        findings = tuple(self._finding(mark, len(text)) for mark in marks if mark.found)
        scores = {mark.category: mark.score for mark in marks}
        blocked = next((each for each in findings if each.action == "block"), None)
        redacted = next((each for each in findings if each.action == "redact"), None)
        left = "" if blocked is not None else text if redacted is None else f"[{redacted.category}]"
        return Verdict(findings, left, blocked, scores)

    def guard(self, where: Where, context: Context) -> Guard:
        """See shielding.Safety."""
        if where not in self._where:
            return Passing()
        return PiecesGuard(lambda text: self.check(text, where, context).findings, self._pieces)

    def _finding(self, mark: Mark, length: int) -> Finding:
        outcome = self._outcomes.get(mark.category, Outcome())
        message = outcome.message or f"The text was judged as {mark.category}."
        return Finding(f"{self._name}.{mark.category}", mark.category, outcome.action, 0, length, message, mark.score)


def known(config: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The values of ``names`` that a service's config has."""
    return {name: config[name] for name in names if name in config}
