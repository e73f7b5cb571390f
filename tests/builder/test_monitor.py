"""The three observers: what each shows of the same events."""

from __future__ import annotations

import io
import json

import pytest

from lsbuild.running.monitor import Console, JsonLines, Monitor, Pace, Silent


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


def test_a_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    pace.update(0.0, 0, 2000)
    assert (pace.rate, str(pace)) == (0.0, ""), "one look tells no speed"
    pace.update(0.5, 900, 2000)
    assert not pace.rate, "half a second tells none either"
    for second in range(1, 101):
        pace.update(float(second), 900 + 4 * second, 2000)
    assert pace.rate == pytest.approx(4.0)
    assert pace.left == pytest.approx((2000 - 1300) / 4)
    assert str(pace) == "4.0/s, 2:55 left"


def test_a_pace_starts_anew_with_another_total() -> None:
    pace = Pace()
    for second in range(5):
        pace.update(float(second), second * 100_000, 500_000)
    assert str(pace) == "100000/s, 0:01 left"
    pace.update(5.0, 0, 36_000_000)
    assert not pace.rate
    pace.update(6.0, 1000, 36_000_000)
    assert str(pace) == "1000/s, 9:59:59 left"


def test_json_lines_tell_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monitor = JsonLines(text)
    clock = iter([1.0, 1.0, 3.0, 3.0])
    monkeypatch.setattr("lsbuild.running.monitor.time.monotonic", lambda: next(clock))
    monitor.progress("s", 10, 100, "a")
    monitor.progress("s", 50, 100, "b")
    first, second = (json.loads(line) for line in text.getvalue().splitlines())
    assert "rate" not in first
    assert (second["rate"], second["left"]) == (20.0, 2.5)


def test_a_console_with_a_terminal_shows_the_pace() -> None:
    from rich.console import Console as RichConsole

    text = io.StringIO()
    console = Console(text)
    console._bars.live.console = RichConsole(file=text, force_terminal=True, width=160)
    console.started("s", "not built before")
    pace = console._bars.tasks[0].fields["pace"]
    pace.update(0.0, 0, 100)
    pace.update(2.0, 50, 100)
    console._bars.live.console.print(console._bars.make_tasks_table(console._bars.tasks))
    assert "25/s, 0:02 left" in text.getvalue()


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Silent())
    assert capsys.readouterr() == ("", "")
