"""What became of each part of the file, as text and as plain values; it decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lsbuild.importing.work import Finding

_HEADS = {
    "attention": "needs your attention",
    "none": "no counterpart",
    "default": "kept by default",
    "mapped": "mapped",
}


_SUMMED = _HEADS | {"attention": "to look at", "none": "without counterpart"}


def to_dict(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """One object for each part: status, what, where, became, note."""
    keys = ("status", "what", "where", "became", "note")
    return [{key: getattr(finding, key) for key in keys} for finding in findings]


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """How many parts have each status."""
    counted = Counter[str](finding.status for finding in findings)
    return {status: counted[status] for status in _HEADS}


def summary(findings: Sequence[Finding]) -> str:
    """One line."""
    return ", ".join(f"{number} {_SUMMED[status]}" for status, number in counts(findings).items() if number) or "none"


def to_text(findings: Sequence[Finding]) -> str:
    """The parts by status, what needs the user first; each with its place."""
    lines: list[str] = []
    for status, head in _HEADS.items():
        group = [finding for finding in findings if finding.status == status]
        if group:
            lines += [f"{head}:", *(line for finding in group for line in _lines(finding))]
    return "\n".join([*lines, summary(findings)])


def _lines(finding: Finding) -> Sequence[str]:
    became = f" -> {finding.became}" if finding.became else ""
    first = _printable(f"  {finding.where}: {finding.what}{became}")
    return [first, *([_printable(f"      {finding.note}")] if finding.note else [])]


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line)


def summary_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """For ``--json``."""
    return {"counts": counts(findings), "report": to_dict(findings)}
