"""A server that is killed with kill -9 in the middle of a run: the next one goes on from the last finished step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import response_process
from live_server import eventually
from lsbuild_runtime.responses.keeping import Responses
from responding import Actor, events_of, opened, respond, settled, text_of
from runtime_asking import asked


def killed(folder: Path, kind: str) -> None:
    """A response is begun by another process, which is killed in its second step."""
    command = [sys.executable, response_process.__file__, str(folder), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
        finally:
            process.kill()


def made(folder: Path) -> list[str]:
    """The calls that really happened."""
    return (folder / "state/notes/made").read_text().split()


def finished(folder: Path) -> tuple[Mapping[str, Any], list[Any]]:
    """The response as the next server ends it, and its kept events."""
    with opened(folder, started=False) as app:
        found = asked(app, "GET", "/v1/responses").json["data"][0]
        assert (found["status"], [each["type"] for each in found["output"]]) == ("in_progress", ["mcp_call"])
        actor: Actor = app.services.get("inference", "actor")
        actor.gate.set()
        app.start()
        done = settled(app, found["id"])
        events = []
        if done["background"]:
            events = events_of(asked(app, "GET", f"/v1/responses/{found['id']}", query={"stream": "true"}))
        assert len(actor.asked) == 2  # the second step again, and the third
        return done, events


@pytest.mark.parametrize("kind", ["background", "stream"])
def test_a_run_goes_on_from_its_last_finished_step(tmp_path: Path, kind: str) -> None:
    killed(tmp_path, kind)
    assert made(tmp_path) == ["first"]
    done, events = finished(tmp_path)
    assert made(tmp_path) == ["first", "second"]
    assert (done["status"], text_of(done)) == ("completed", "HalfDone")
    assert [each["type"] for each in done["output"]] == ["mcp_call", "message", "mcp_call", "message"]
    assert done["usage"]["output_tokens"] == 5 + 6 + 1
    if kind == "background":
        again = next(place for place, event in enumerate(events) if event["sequence_number"] > 1_000_000)
        assert events[again]["type"] == "response.in_progress"
        items = [event["item"]["id"] for event in events[again:] if event["type"] == "response.output_item.done"]
        assert items == [each["id"] for each in done["output"][1:]]


def test_a_response_that_ends_its_server_each_time_is_failed(tmp_path: Path) -> None:
    killed(tmp_path, "background")
    with opened(tmp_path, started=False) as app:
        records = app.kept(Responses).records
        for number in range(4):
            records.enter(f"owner_{number}")
            assert records.take(f"owner_{number}") is not None
            records.leave(f"owner_{number}")
        app.start()
        response = asked(app, "GET", "/v1/responses").json["data"][0]["id"]
        done = settled(app, response)
        assert (done["status"], done["error"]["code"]) == ("failed", "server_error")
        assert "4 times" in done["error"]["message"]
        assert [each["type"] for each in done["output"]] == ["mcp_call"]


def test_a_server_that_began_on_an_empty_folder_takes_over_as_well(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        actor: Actor = app.services.get("inference", "actor")
        actor.gate.set()
        records: Any = app.services.get("state", "responses")
        records.limits = replace(records.limits, lease=0.1)
        assert respond(app, "say Hello").status == 200
        killed(tmp_path, "background")
        response = asked(app, "GET", "/v1/responses").json["data"][0]["id"]
        assert settled(app, response)["status"] == "completed"
    assert made(tmp_path) == ["first", "second"]


def test_another_server_on_the_same_folder_takes_over_when_one_dies(tmp_path: Path) -> None:
    """It learns of the death from the kernel, which gives the dead one's lock back."""
    with opened(tmp_path) as app:
        actor: Actor = app.services.get("inference", "actor")
        actor.gate.set()
        killed(tmp_path, "background")
        assert app.kept(Responses).records.waiting()
        app.kept(Responses).wake()
        response = asked(app, "GET", "/v1/responses").json["data"][0]["id"]
        assert settled(app, response)["status"] == "completed"
        assert eventually(lambda: not app.kept(Responses).records.waiting())
    assert made(tmp_path) == ["first", "second"]
