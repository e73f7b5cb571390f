"""The questions to a booted artifact: none that could make a tool do something."""

from __future__ import annotations

from pathlib import Path

from flows import flow_app, kit
from live_server import serving
from lsbuild.proving.questions import questions
from scripted import agent_of


def test_nothing_is_asked_that_could_act(tmp_path: Path) -> None:
    spec = {"steps": {"a": {"tool": "kit.note", "arguments": {"text": "{{input.text}}"}}}}
    outer = agent_of("org/parrot", "kit")
    app = flow_app(tmp_path, {"flow": spec}, more=[outer])
    with serving(app) as base:
        checks = {check.name: check for check in questions(app.manifest)(base)}
    for name in ("agents flow", "agents org/parrot-agent"):
        assert checks[name].detail == "not asked: it could do something with its tools"
    assert (checks["workflows flow"].ok, checks["workflows flow"].detail) == (True, "1 steps")
    assert checks["agents helper"].detail != checks["agents flow"].detail
    assert kit(app).made == []
