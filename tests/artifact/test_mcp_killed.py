"""An MCP server that is killed in the middle of an agent's call: the run goes on, and so does everything else."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from artifact_tools import Lsbuild, booted, compiled, post
from strong_model import StrongModel, strong_model

DESK = Path(__file__).parent / "desk"
SAID = "fetch_note failed: the server ended of signal 9."
TASK = 'call fetch_note {"name": "valve"}\ncall read_note {"name": "valve"}'
NOTE = "The spare valve lies on shelf 7."


class Desk(NamedTuple):
    """The booted artifact, the pipe that its MCP server writes its number into, and the log."""

    base: str
    called: Path
    log: Path


@pytest.fixture(scope="module")
def upstream() -> Iterator[StrongModel]:
    with strong_model() as server:
        yield server


@pytest.fixture(scope="module")
def artifact(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    server = shutil.copy(DESK / "notes_server.py", folder)
    os.mkfifo(folder / "called")
    mcp = {"command": [sys.executable, server], "env": {"NOTES_CALLED": str(folder / "called")}}
    spec = {
        "name": "killed",
        "models": {
            "strong": {
                "type": "llm",
                "provider": "remote::openai",
                "config": {"base_url": "${env.STRONG_URL:=http://127.0.0.1:9/v1}", "model": "strong"},
            }
        },
        "tools": {"notes": {"mcp": mcp, "sends": "nothing"}, "calc": {"builtin": "calculator"}},
        "agents": {"helper": {"model": "strong", "tools": ["notes"], "limits": {"wall": "120s"}}},
    }
    (folder / "spec.yaml").write_text(json.dumps(spec))
    return compiled(lsbuild, folder / "spec.yaml", folder / "out")


@pytest.fixture
def desk(artifact: Path, upstream: StrongModel, tmp_path: Path) -> Iterator[Desk]:
    log = tmp_path / "log"
    with (
        log.open("w") as stream,
        booted(artifact, "--state", tmp_path / "state", environ={"STRONG_URL": upstream.base}, log=stream) as base,
    ):
        yield Desk(f"{base}/v1", artifact.parent / "called", log)


def killed(called: Path) -> None:
    """Wait until the server is in its call, and kill it there."""
    pipe = os.open(called, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert select.select([pipe], [], [], 60)[0], "the MCP server was not called"
        os.kill(int(os.read(pipe, 20)), signal.SIGKILL)
    finally:
        os.close(pipe)


def test_a_run_goes_on_with_what_it_is_told_and_the_next_call_works(desk: Desk) -> None:
    def ask() -> tuple[list[Any], Any]:
        with client.responses.stream(model="helper", input=TASK) as stream:
            return list(stream), stream.get_final_response()

    with openai.OpenAI(base_url=desk.base, api_key="none", max_retries=0) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        killed(desk.called)
        events, response = answer.result(120)
    assert response.status == "completed"
    fetched, read, _ = response.output
    assert (fetched.type, fetched.status, fetched.output) == ("mcp_call", "failed", None)
    assert fetched.error.message == SAID
    assert (read.type, read.status, read.output) == ("mcp_call", "completed", NOTE)
    assert SAID in response.output_text and NOTE in response.output_text
    ends = [event.type for event in events if event.type in ("response.mcp_call.failed", "response.mcp_call.completed")]
    assert ends == ["response.mcp_call.failed", "response.mcp_call.completed"]


def test_others_are_served_meanwhile_and_the_log_says_what_happened(desk: Desk) -> None:
    question = {"model": "helper", "messages": [{"role": "user", "content": TASK}]}
    sum_ = {"tool_name": "calc", "kwargs": {"expression": "6*7"}}
    note = {"tool_name": "read_note", "kwargs": {"name": "key"}}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, f"{desk.base}/chat/completions", question)
        killed(desk.called)
        assert post(f"{desk.base}/tool-runtime/invoke", sum_)["content"] == "42"
        said = answer.result(120)["choices"][0]
    assert post(f"{desk.base}/tool-runtime/invoke", note)["content"] == "The key hangs behind the door."
    assert said["finish_reason"] == "stop"
    assert SAID in said["message"]["content"] and NOTE in said["message"]["content"]
    (line,) = [json.loads(each) for each in desk.log.read_text().splitlines() if "/v1/chat/completions" in each]
    outcomes = {span["name"]: span.get("lsbuild.tool.outcome") for span in line["spans"]}
    assert (outcomes["execute_tool fetch_note"], outcomes["execute_tool read_note"]) == ("failed", "ok")
