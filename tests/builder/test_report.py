"""The report names every document that was left out, also when its step was cached."""

from __future__ import annotations

from pathlib import Path

from lsbuild.api import Artifact
from lsbuild.report import Report, StepRow, to_text

SKIPPED = [{"path": "docs/a.pdf", "reason": "this PDF is encrypted and asks for a password"}]


def row(name: str, cached: bool, facts: dict[str, object]) -> StepRow:
    return StepRow(name, "cached" if cached else "not built before", cached, 1.0, 1.0, 1, 1, facts)


def test_what_was_left_out_is_named() -> None:
    rows = (
        row("passages.0", True, {"passages": 3, "skipped": SKIPPED}),
        row("passages.1", False, {"passages": 0, "skipped": []}),
        row("index", False, {}),
    )
    report = Report("x", "host", Artifact(Path("build/x"), "0" * 64, 1, "folder"), (), rows, 1.0, 1.0)
    lines = to_text(report).splitlines()
    assert "  left out: docs/a.pdf: this PDF is encrypted and asks for a password" in lines
    assert sum("left out" in line for line in lines) == 1


def test_warnings_of_steps_are_told_to_people_and_programs() -> None:
    rows = (row("agents.a.prompt-chat", True, {"schemas": 1, "warnings": ["it does not fit"]}), row("index", False, {}))
    report = Report("x", "host", Artifact(Path("build/x"), "0" * 64, 1, "folder"), (), rows, 1.0, 1.0)
    assert "  warning: agents.a.prompt-chat: it does not fit" in to_text(report).splitlines()
