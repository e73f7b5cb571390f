"""Runs that are kept: in the background, killed and gone on with, answered by a person, cancelled, listed, forgotten."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import flow_process
from flows import DURABLE, flow_app, kit, write
from live_server import eventually
from lsbuild_runtime.app import App
from lsbuild_runtime.http import Context, Request
from lsbuild_runtime.workflows.kept import Runs
from lsbuild_runtime.workflows.service import Workflows
from runtime_asking import Answer, Ask, asked

RUNS = "/v1/workflows/flow/runs"
GIVEN = {"text": "go", "list": ["a", "b"]}
SIMPLE: Mapping[str, Any] = {"steps": {"a": {"tool": "kit.note", "arguments": {"text": "{{input.text}}"}}}}


@contextmanager
def opened(folder: Path, spec: Mapping[str, Any]) -> Iterator[tuple[App, Ask]]:
    """A server over one workflow and the state in ``folder``."""
    app = flow_app(folder / "bundle", {"flow": spec}, state=folder / "state")
    try:
        yield app, functools.partial(asked, app)
    finally:
        app.close()


def begun(ask: Ask, given: Any = None, **more: Any) -> str:
    """The id of a new run in the background."""
    answer = ask("POST", RUNS, {"input": given or {"text": "go"}, "background": True, **more})
    assert answer.status == 202, answer.body
    assert answer.json["status"] == "queued"
    return str(answer.json["id"])


def ended(ask: Ask, run_id: str, *statuses: str) -> dict[str, Any]:
    """The run, once it has one of these statuses."""
    wanted = statuses or ("completed",)
    assert eventually(lambda: ask("GET", f"{RUNS}/{run_id}").json["status"] in wanted), ask(
        "GET", f"{RUNS}/{run_id}"
    ).json
    found: dict[str, Any] = ask("GET", f"{RUNS}/{run_id}").json
    return found


def test_a_run_in_the_background_ends_and_can_be_looked_up(tmp_path: Path) -> None:
    with opened(tmp_path, SIMPLE) as (_, ask):
        run = ended(ask, begun(ask, metadata={"who": "me"}))
        assert (run["output"], run["metadata"], run["stored"]) == ("GO", {"who": "me"}, True)
        assert [(step["step"], step["output"]["text"]) for step in run["steps"]] == [("a", "GO")]
        assert run["ended_at"] >= run["created_at"] > 0


def test_a_request_that_waits_gets_the_whole_run_and_it_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path, SIMPLE) as (_, ask):
        run = ask("POST", RUNS, {"input": {"text": "go"}}).json
        assert (run["status"], run["output"]) == ("completed", "GO")
        assert ask("GET", f"{RUNS}/{run['id']}").json == run
        events = ask("POST", RUNS, {"input": {"text": "go"}, "stream": True}).events
        assert events[-1]["type"] == "run.completed"


@contextmanager
def process(folder: Path, gate: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A server of its own over DURABLE, and what it said until it was ready."""
    write(folder / "bundle", "flow", DURABLE)
    command = [sys.executable, flow_process.__file__, str(folder), gate]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert running.stdout is not None
        said = []
        while (line := running.stdout.readline().strip()) != "ready":
            assert line, "the process ended"
            said.append(line)
        yield running, said
    finally:
        running.kill()
        running.wait(10)
        for stream in (running.stdin, running.stdout):
            if stream is not None:
                stream.close()


def test_a_run_that_is_killed_goes_on_from_its_last_finished_step(tmp_path: Path) -> None:
    with process(tmp_path, "closed") as (running, said):
        (run_id,) = said
        running.kill()
        running.wait(10)
    log = tmp_path / "calls.log"
    assert log.read_text().splitlines() == ["first go", "a", "b", "slow A\n\nB".splitlines()[0], "", "B"]
    with process(tmp_path, "closed") as (running, _):  # and a second time, at the very same step
        running.kill()
        running.wait(10)
    with opened(tmp_path, DURABLE) as (app, ask):
        calls: list[str] = []
        kit(app).gates.log = calls.append
        app.start()
        run = ended(ask, run_id)
        assert calls == ["slow A\n\nB", "last slow A\n\nB"]  # the step that was under way, and what was left
        assert run["output"] == "LAST SLOW A\n\nB"
        assert [step["step"] for step in run["steps"]] == [
            "first",
            "each[0].one",
            "each[1].one",
            "each",
            "stop",
            "last",
        ]
    assert log.read_text().count("first go") == 1


def test_a_server_that_stops_leaves_its_runs_to_the_next(tmp_path: Path) -> None:
    with opened(tmp_path, DURABLE) as (app, ask):
        kit(app).gates.gate.clear()
        run_id = begun(ask, GIVEN)
        assert kit(app).gates.waiting.wait(10)
        app.close()
        assert ask("GET", f"{RUNS}/{run_id}").json["status"] == "queued"
    with opened(tmp_path, DURABLE) as (app, ask):
        app.start()
        assert ended(ask, run_id)["output"] == "LAST SLOW A\n\nB"
        assert [name for name, _ in kit(app).made] == ["slow", "note"]


def test_a_run_that_ends_its_server_again_and_again_is_failed(tmp_path: Path) -> None:
    said_first = ""
    for _ in range(4):
        with process(tmp_path, "closed") as (running, said):
            said_first = said_first or said[0]
            running.kill()
            running.wait(10)
    with opened(tmp_path, DURABLE) as (app, ask):
        app.start()
        assert "tried 4 times" in ended(ask, said_first, "failed")["error"]["message"]


def test_a_run_of_a_workflow_that_was_changed_is_failed(tmp_path: Path) -> None:
    with opened(tmp_path, DURABLE) as (app, ask):
        kit(app).gates.gate.clear()
        run_id = begun(ask, GIVEN)
        assert kit(app).gates.waiting.wait(10)
    with opened(tmp_path, SIMPLE) as (app, ask):
        app.start()
        assert ended(ask, run_id, "failed")["error"]["code"] == "workflow_changed"


ASKING: Mapping[str, Any] = {
    "steps": {
        "a": {"tool": "kit.note", "arguments": {"text": "{{input.text}}"}},
        "check": {"approval": "Send {{steps.a.text}}?"},
        "b": {"tool": "kit.note", "arguments": {"text": "sent {{steps.check.reason}}"}},
    }
}


def test_a_run_waits_for_a_person_also_over_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path, ASKING) as (_, ask):
        run = ask("POST", RUNS, {"input": {"text": "it"}}).json
        assert (run["status"], run["waiting_for"]) == ("waiting", {"step": "check", "text": "Send IT?"})
    with opened(tmp_path, ASKING) as (app, ask):
        app.start()
        path = f"{RUNS}/{run['id']}/approve"
        assert ask("POST", path, {"approved": True, "step": "other"}).status == 409
        assert ask("POST", path, {"approved": "yes"}).status == 400
        answer = ask("POST", path, {"approved": True, "reason": "fine", "step": "check"})
        assert answer.status == 200
        done = ended(ask, run["id"])
        assert (done["output"], done["waiting_for"]) == ("SENT FINE", None)
        assert [name for name, _ in kit(app).made] == ["note"]  # the first step was not done again
        assert ask("POST", path, {"approved": True}).error["code"] == "not_waiting"


def test_what_a_person_refuses_ends_the_run(tmp_path: Path) -> None:
    with opened(tmp_path, ASKING) as (_, ask):
        run_id = ask("POST", RUNS, {"input": {"text": "it"}}).json["id"]
        ask("POST", f"{RUNS}/{run_id}/approve", {"approved": False, "reason": "no money"})
        assert ended(ask, run_id, "failed")["error"] == {
            "code": "refused", "message": "it was refused: no money", "step": "check",
        }  # fmt: skip


def test_a_tool_that_needs_a_person_is_called_after_they_agreed(tmp_path: Path) -> None:
    spec = {"steps": {"pay": {"tool": "kit.pay", "arguments": {"sum": "{{input.text}}"}}}}
    with opened(tmp_path, spec) as (app, ask):
        run = ask("POST", RUNS, {"input": {"text": "9"}}).json
        assert run["waiting_for"] == {"step": "pay", "text": 'Call kit.pay? {"sum":"9"}'}
        assert kit(app).made == []
        ask("POST", f"{RUNS}/{run['id']}/approve", {"approved": True})
        assert ended(ask, run["id"])["output"] == "paid"
        assert kit(app).made == [("pay", {"sum": "9"})]


def test_a_run_is_cancelled_while_it_works_and_while_it_waits(tmp_path: Path) -> None:
    with opened(tmp_path, DURABLE) as (app, ask):
        kit(app).gates.gate.clear()
        run_id = begun(ask, GIVEN)
        assert kit(app).gates.waiting.wait(10)
        assert ask("POST", f"{RUNS}/{run_id}/cancel").json["status"] == "cancelled"
        assert eventually(lambda: not app.kept(Workflows).worker._busy)
        run = ask("GET", f"{RUNS}/{run_id}").json
        assert (run["status"], [step["step"] for step in run["steps"]][-1]) == ("cancelled", "each")
        assert ask("POST", f"{RUNS}/{run_id}/cancel").json["status"] == "cancelled"
    with opened(tmp_path / "b", ASKING) as (_, ask):
        run_id = ask("POST", RUNS, {"input": {"text": "it"}}).json["id"]
        assert ask("POST", f"{RUNS}/{run_id}/cancel").json["status"] == "cancelled"
        assert ask("POST", f"{RUNS}/{run_id}/approve", {"approved": True}).status == 409


def test_a_request_that_ends_before_its_run_leaves_it_to_the_background(tmp_path: Path) -> None:
    with opened(tmp_path, DURABLE) as (app, ask):
        kit(app).gates.gate.clear()
        context = Context(deadline=0.0)
        body = b'{"input": {"text": "go", "list": []}}'
        request = Request("POST", RUNS, {}, {"content-type": "application/json"}, body, context)
        answer = Answer(app.handle(request))
        assert answer.status == 200
        assert answer.json["status"] in ("queued", "in_progress")
        kit(app).gates.gate.set()
        ended(ask, answer.json["id"])


def test_a_client_that_leaves_a_stream_leaves_the_run(tmp_path: Path) -> None:
    with opened(tmp_path, DURABLE) as (app, ask):
        body = b'{"input": {"text": "go", "list": []}, "stream": true}'
        response = app.handle(Request("POST", RUNS, {}, {"content-type": "application/json"}, body))
        chunks = iter(response.body)  # type: ignore[arg-type]
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        (run,) = ask("GET", RUNS).json["data"]
        ended(ask, run["id"])


def test_no_run_is_taken_before_what_was_left_is_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking, go, mine = threading.Event(), threading.Event(), list[bool]()
    left = Runs.left

    def slow(runs: Runs) -> None:
        looking.set()
        assert go.wait(60)
        left(runs)

    monkeypatch.setattr(Runs, "left", slow)
    with opened(tmp_path, SIMPLE) as (app, _):
        worker = app.kept(Workflows).worker
        assert looking.wait(60)
        request = threading.Thread(target=lambda: mine.append(worker.mine()))
        request.start()
        request.join(0.1)
        assert mine == []  # its run, in progress by then, would be queued as one that was left
        go.set()
        request.join(60)
        assert mine == [True]


def test_runs_are_listed_page_by_page_and_forgotten(tmp_path: Path) -> None:
    with opened(tmp_path, SIMPLE) as (_, ask):
        ids = [ask("POST", RUNS, {"input": {"text": str(number)}}).json["id"] for number in range(3)]
        first = ask("GET", RUNS, query={"limit": "2"}).json
        assert ([run["id"] for run in first["data"]], first["has_more"]) == ([ids[2], ids[1]], True)
        rest = ask("GET", RUNS, query={"limit": "2", "after": first["last_id"]}).json
        assert ([run["id"] for run in rest["data"]], rest["has_more"]) == ([ids[0]], False)
        assert [run["id"] for run in ask("GET", RUNS, query={"order": "asc"}).json["data"]] == ids
        assert ask("GET", RUNS, query={"status": "failed"}).json["data"] == []
        assert ask("GET", RUNS, query={"after": "wfrun_x"}).error["code"] == "run_not_found"
        assert ask("GET", RUNS, query={"status": "odd"}).error["param"] == "status"
        assert ask("DELETE", f"{RUNS}/{ids[0]}").json["deleted"] is True
        assert ask("GET", f"{RUNS}/{ids[0]}").error["code"] == "run_not_found"
        assert ask("GET", "/v1/workflows/other/runs").status == 404


def test_a_run_under_way_is_not_forgotten_and_an_old_one_is(tmp_path: Path) -> None:
    now = [1000.0]
    app = flow_app(tmp_path / "bundle", {"flow": {**ASKING, "keep": "1m"}}, state=tmp_path / "state")
    app.kept(Workflows).clock = lambda: now[0]
    ask = functools.partial(asked, app)
    run_id = ask("POST", RUNS, {"input": {"text": "it"}}).json["id"]
    assert ask("DELETE", f"{RUNS}/{run_id}").error["code"] == "run_not_over"
    ask("POST", f"{RUNS}/{run_id}/cancel")
    app.kept(Workflows).runs.expire("flow", 60.0)
    assert ask("GET", f"{RUNS}/{run_id}").status == 200
    now[0] += 61
    app.kept(Workflows).runs.expire("flow", 60.0)
    assert ask("GET", f"{RUNS}/{run_id}").status == 404
    app.close()


def test_of_two_processes_one_works(tmp_path: Path) -> None:
    with opened(tmp_path, SIMPLE) as (first, ask), opened(tmp_path, SIMPLE) as (second, other):
        assert first.kept(Workflows).worker.mine()
        assert not second.kept(Workflows).worker.mine()
        first.kept(Workflows).worker.wake()
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(other("POST", RUNS, {"input": {"text": "x"}})))
        thread.start()
        assert eventually(lambda: bool(ask("GET", RUNS).json["data"]))
        first.kept(Workflows).worker.wake()
        thread.join(10)
        assert answers[0].json["output"] == "X"
        assert kit(second).made == []
        first.close()
        assert second.kept(Workflows).worker.mine()


def test_a_server_that_began_on_an_empty_folder_takes_over(tmp_path: Path) -> None:
    with opened(tmp_path, DURABLE) as (first, ask), opened(tmp_path, DURABLE) as (_, other):
        gates = kit(first).gates
        gates.gate.clear()
        run_id = begun(ask, {"text": "x", "list": []})
        assert other("GET", f"{RUNS}/{run_id}").json["status"] in ("queued", "in_progress")
        assert gates.waiting.wait(10)
        first.close()
        assert eventually(lambda: other("GET", f"{RUNS}/{run_id}").json["status"] == "completed")


def test_a_step_is_not_done_for_a_run_that_was_cancelled_meanwhile(tmp_path: Path) -> None:
    with opened(tmp_path, DURABLE) as (app, ask):

        def log(text: str) -> None:
            if text == "a":
                (run,) = ask("GET", RUNS).json["data"]
                app.kept(Workflows).runs.cancel("flow", run["id"])  # as another process would

        kit(app).gates.log = log
        run_id = begun(ask, GIVEN)
        assert eventually(
            lambda: not app.kept(Workflows).worker._busy and ask("GET", f"{RUNS}/{run_id}").json["ended_at"]
        )
        run = ask("GET", f"{RUNS}/{run_id}").json
        assert (run["status"], [step["step"] for step in run["steps"]]) == ("cancelled", ["first"])


def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with opened(tmp_path, SIMPLE) as (_, ask):
        answer = ask("POST", RUNS, {"input": {"text": "x"}})
        assert answer.status == 503
        assert "state folder" in answer.error["message"]
        unkept = ask("POST", RUNS, {"input": {"text": "x"}, "store": False}).json
        assert (unkept["status"], unkept["stored"]) == ("completed", False)
        assert ask("POST", RUNS, {"input": {"text": "x"}, "store": False, "background": True}).error["param"] == "store"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"input": 5}', b'{"input": {"text": "x"}, "metadata": {"a": 1}}'])
def test_bad_bodies_are_refused(tmp_path: Path, body: bytes) -> None:
    with opened(tmp_path, SIMPLE) as (_, ask):
        assert ask("POST", RUNS, body).status == 400
        assert ask("GET", RUNS).json["data"] == []
