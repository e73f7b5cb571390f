"""Servers that share a database share responses and conversations, and take over what one of them leaves when it dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import response_process
from lsbuild_runtime.app import App
from lsbuild_runtime.manifest import Service
from responding import Actor, events_of, opened, respond, settled, text_of
from runtime_asking import asked


@pytest.fixture
def fleet(state: Service, tmp_path: Path) -> Iterator[tuple[App, App]]:
    """Two servers."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with opened(tmp_path / "one", state) as one, opened(tmp_path / "other", state) as other:
        yield one, other


def actor(app: App) -> Actor:
    """Its model."""
    found: Actor = app.services.get("inference", "actor")
    return found


def test_a_conversation_goes_on_wherever_it_is_asked(fleet: tuple[App, App]) -> None:
    one, other = fleet
    conversation = asked(one, "POST", "/v1/conversations", {"items": [{"role": "user", "content": "I am Ada."}]}).json[
        "id"
    ]
    first = respond(other, "say Hello", conversation=conversation).json
    second = respond(one, "say Bye", conversation=conversation).json
    assert [each["content"] for each in actor(one).asked[-1].messages] == ["I am Ada.", "say Hello", "Hello", "say Bye"]
    assert asked(other, "GET", f"/v1/responses/{second['id']}").json == second
    third = respond(one, "say More", previous_response_id=first["id"])
    assert text_of(third.json) == "More"
    items = asked(other, "GET", f"/v1/conversations/{conversation}/items", query={"order": "asc"}).json["data"]
    assert len(items) == 5


def test_a_conversation_takes_one_response_at_a_time_in_the_whole_fleet(fleet: tuple[App, App]) -> None:
    one, other = fleet
    conversation = asked(one, "POST", "/v1/conversations", {}).json["id"]
    first = respond(one, "wait ; say Hello", conversation=conversation, background=True).json
    for app in fleet:
        actor(app).gate.clear()
    assert asked(other, "GET", f"/v1/responses/{first['id']}").json["status"] in ("queued", "in_progress")
    assert respond(other, "say Bye", conversation=conversation).error["code"] == "conversation_locked"
    for app in fleet:
        actor(app).gate.set()
    assert text_of(settled(other, first["id"])) == "Hello"


def test_a_response_is_followed_and_cancelled_from_another_server(fleet: tuple[App, App]) -> None:
    one, other = fleet
    first = respond(one, 'call echo {"text": "a"}\nwait ; say Hello', "agent", background=True).json["id"]
    while not any(actor(app).waiting.is_set() for app in fleet):
        actor(one).waiting.wait(0.05)
    cancelled = asked(other, "POST", f"/v1/responses/{first}/cancel", None).json
    assert (cancelled["status"], [each["type"] for each in cancelled["output"]]) == ("cancelled", ["mcp_call"])
    for app in fleet:
        actor(app).gate.set()
    second = respond(one, "say Hello", background=True).json["id"]
    events = events_of(asked(other, "GET", f"/v1/responses/{second}", query={"stream": "true"}))
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    assert asked(one, "GET", f"/v1/responses/{first}").json["status"] == "cancelled"


@pytest.mark.parametrize("kind", ["background", "stream"])
def test_a_run_whose_server_is_killed_goes_on_elsewhere_when_its_lease_is_over(
    state: Service, tmp_path: Path, kind: str
) -> None:
    described = tmp_path / "state.json"
    described.write_bytes(msgspec.json.encode(state))
    command = [sys.executable, response_process.__file__, str(tmp_path), kind, str(described)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
        finally:
            process.kill()
    with opened(tmp_path, state, started=False) as app:
        actor(app).gate.set()
        found: Any = asked(app, "GET", "/v1/responses").json["data"][0]
        assert (found["status"], [each["type"] for each in found["output"]]) == ("in_progress", ["mcp_call"])
        app.start()
        done = settled(app, found["id"])
        assert (done["status"], text_of(done)) == ("completed", "HalfDone")
        assert len(actor(app).asked) == 2  # the second step again, and the third
    made = (tmp_path / "state/notes/made").read_text().split()
    assert made == ["first", "second"]
