"""The three observers: what each shows of the same events."""

from __future__ import annotations

import io
import json

import pytest

from lsbuild.monitor import Console, JsonLines, Monitor, Silent


def tell(monitor: Monitor) -> None:
    with monitor:
        monitor.stage("execute")
        monitor.started("models.chat", "not built before")
        monitor.progress("models.chat", 1, 2, "quantising [layer 1]")
        monitor.finished("models.chat", 1.25, cached=False)
        monitor.finished("models.embed", 0.0, cached=True)
        monitor.started("index", "docs/faq.md changed")
        monitor.failed("index", "it broke\nTraceback")
        monitor.note("no bytecode")


def test_the_console_leaves_one_line_for_each_step() -> None:
    text = io.StringIO()
    tell(Console(text))
    assert text.getvalue().splitlines() == [
        "✓ models.chat  1.2 s",
        "= models.embed  cached",
        "✗ index  it broke",
        "· no bytecode",
    ]


def test_the_console_writes_to_stderr_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Console())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "models.chat" in shown.err


def test_json_lines_are_one_object_each() -> None:
    text = io.StringIO()
    tell(JsonLines(text))
    events = [json.loads(line) for line in text.getvalue().splitlines()]
    assert [event.pop("t") >= 0 for event in events] == [True] * 8
    assert events == [
        {"event": "stage", "name": "execute"},
        {"event": "started", "step": "models.chat", "reason": "not built before"},
        {"event": "progress", "step": "models.chat", "done": 1, "total": 2, "label": "quantising [layer 1]"},
        {"event": "finished", "step": "models.chat", "seconds": 1.25, "cached": False},
        {"event": "finished", "step": "models.embed", "seconds": 0.0, "cached": True},
        {"event": "started", "step": "index", "reason": "docs/faq.md changed"},
        {"event": "failed", "step": "index", "message": "it broke\nTraceback"},
        {"event": "note", "text": "no bytecode"},
    ]


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Silent())
    assert capsys.readouterr() == ("", "")
