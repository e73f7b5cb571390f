"""``lsbuild verify`` from top to bottom: examine each artifact, compare what they answered, say what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from lsbuild.api import Check, State
from lsbuild.errors import GateError, LsbuildError, VerifyError
from lsbuild.proving import comparison
from lsbuild.proving.comparison import Row
from lsbuild.proving.examine import COLD, Boot, Examination


@dataclass(frozen=True, slots=True)
class Verified:
    """Artifacts that were looked at, and how their answers agree with those of the first one that was booted."""

    examined: tuple[Examination, ...]
    rows: tuple[Row, ...]

    @property
    def checks(self) -> list[Check]:
        """Those of every artifact, in order."""
        return [check for each in self.examined for check in each.checks]

    @property
    def wrong(self) -> list[str]:
        """What was looked at and does not hold."""
        failed = [f"{check.name}: {check.detail}" for check in self.checks if not check.ok]
        apart = [row for row in self.rows if not row.agreement.ok]
        return failed + [f"{row.service} of {row.place}: {row.agreement.said}" for row in apart]

    @property
    def open(self) -> list[str]:
        """What was not looked at here, though it could be elsewhere."""
        return [f"{check.name}: {check.detail}" for check in self.checks if check.state == "skipped"]


def verify(
    artifacts: Sequence[Path],
    begins: Callable[[Examination], None] = lambda _: None,
    told: Callable[[Check], None] = lambda _: None,
) -> Verified:
    """Look at every artifact, one after the other. Raises VerifyError when one is none of ours, before any is booted.

    ``begins`` is given each artifact before it is looked at, ``told`` each check as it is made.
    """
    examined = tuple(Examination(path) for path in artifacts)
    for each in examined:
        begins(each)
        for check in each.run():
            told(check)
    return Verified(examined, comparison.compare(_boots(examined)))


def _boots(examined: Sequence[Examination]) -> list[Boot]:
    """Those that answered something; where two have the same place, the names of their artifacts tell them apart."""
    places = Counter(boot.place for each in examined for boot in each.boots)
    for each in examined:
        for boot in each.boots:
            if places[boot.place] > 1:
                boot.place = f"{boot.place} ({each.found.path.name})"
    return [boot for each in examined for boot in each.boots if boot.answers]


def fault(found: Verified, *, strict: bool = False) -> LsbuildError | None:
    """What to end with: a VerifyError; a GateError when nothing but the budget of the cold start is missed; or None.

    With ``strict`` what was skipped counts as well.
    """
    wrong = [*found.wrong, *(found.open if strict else ())]
    if not wrong:
        return None
    late = all(check.name.endswith(COLD) for check in found.checks if not check.ok)
    apart = any(not row.agreement.ok for row in found.rows)
    if found.wrong and late and not apart:
        hint = "Leave out what a start reads, or raise the budget; it is processor time of this machine."
        return GateError(found.wrong[0], where="budgets.cold_start", hint=hint)
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return VerifyError("; ".join(wrong[:3]) + more)


def to_dict(found: Verified) -> dict[str, Any]:
    """For ``--json``; ``ok`` is False only for what was looked at and does not hold."""
    listed = [
        {
            "artifact": str(each.found.path),
            "name": check.name,
            "ok": check.ok,
            "state": check.state,
            "detail": check.detail,
        }
        for each in found.examined
        for check in each.checks
    ]
    boots = [
        {"artifact": str(each.found.path), "place": boot.place, "cold_start_ms": boot.cold_ms, "memory": boot.memory}
        for each in found.examined
        for boot in each.boots
    ]
    return {
        "ok": not found.wrong,
        "counts": counts(found.checks),
        "checks": listed,
        "boots": boots,
        "agreement": comparison.to_dict(found.rows),
    }


def counts(checks: Iterable[Check]) -> dict[State, int]:
    """How many checks came to each state; all four are there."""
    found = Counter(check.state for check in checks)
    return {state: found[state] for state in get_args(State)}


def to_text(found: Verified) -> str:
    """For people, after the checks: a table where there is something to compare, and what was proved and what was not."""
    total = ", ".join(f"{count} {state}" for state, count in counts(found.checks).items() if count or state == "proved")
    if not found.rows:
        return total
    apart = sum(not row.agreement.ok for row in found.rows)
    said = f"{apart} of {len(found.rows)} answers differ" if apart else f"{len(found.rows)} answers agree"
    return f"\n{comparison.to_text(found.rows)}\n\n{total}; {said}"
