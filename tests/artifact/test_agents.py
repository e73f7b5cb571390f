"""An agent with tools and a workflow as a real artifact, before an OpenAI-compatible server that says what a script says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import urllib3

from artifact_tools import Lsbuild, booted, compiled
from live_server import eventually, serving
from lsbuild_runtime.app import App
from scripted import Step, call, scripted
from small_services import small_manifest

SPEC: dict[str, Any] = {
    "name": "agents",
    "models": {
        "cloud": {
            "type": "llm",
            "provider": "remote::openai",
            "config": {"base_url": "${env.CLOUD_URL}", "model": "strong"},
        },
    },
    "tools": {"calculator": {"builtin": "calculator"}},
    "agents": {"helper": {"model": "cloud", "tools": ["calculator"], "limits": {"steps": 3}}},
    "workflows": {
        "sums": {
            "input": {"type": "object", "properties": {"sum": {"type": "string"}}, "required": ["sum"]},
            "steps": {
                "add": {"tool": "calculator", "arguments": {"expression": "{{input.sum}}"}},
                "check": {"approval": "Is it {{steps.add.text}}?"},
                "way": {
                    "branch": [
                        {
                            "when": {"steps.add.text": {"matches": "^4"}},
                            "steps": {"tell": {"agent": "helper", "prompt": "Tell of {{steps.add.text}}"}},
                        }
                    ]
                },
            },
        }
    },
}


def obey(number: int) -> list[Step]:
    """What the model says to the agent, again and again: a call, then what came of it."""
    return [call("calculator", {"expression": "6*7"}), Step("It is 42.")] * number


@pytest.fixture(scope="module")
def artifact(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agents")
    (folder / "spec.yaml").write_text(json.dumps(SPEC))
    return compiled(lsbuild, folder / "spec.yaml", folder / "out")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    app = App(small_manifest([scripted("strong", *obey(10))]), tmp_path_factory.mktemp("upstream"))
    with serving(app) as base:
        yield f"{base}/v1"


@pytest.fixture
def base(artifact: Path, upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CLOUD_URL", upstream)
    monkeypatch.setenv("LSBUILD_STATE", str(tmp_path))
    with booted(artifact) as found:
        yield found


def test_an_agent_calls_its_tool(base: str) -> None:
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client:
        question: Any = [{"role": "user", "content": "6*7?"}]
        answer = client.chat.completions.create(model="helper", messages=question)
        assert answer.choices[0].message.content == "It is 42."
        stream = client.chat.completions.create(model="helper", messages=question, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "It is 42."


def test_a_workflow_asks_and_goes_on(base: str) -> None:
    http = urllib3.PoolManager(retries=False)
    runs = f"{base}/v1/workflows/sums/runs"
    run = http.request("POST", runs, json={"input": {"sum": "40+2"}}).json()
    assert (run["status"], run["waiting_for"]) == ("waiting", {"step": "check", "text": "Is it 42?"})
    one = f"{runs}/{run['id']}"
    http.request("POST", f"{one}/approve", json={"approved": True})
    assert eventually(lambda: http.request("GET", one).json()["status"] == "completed")
    done = http.request("GET", one).json()
    assert done["output"] == "It is 42."
    assert [step["step"] for step in done["steps"]] == ["add", "check", "way.tell", "way"]
    http.clear()


def test_the_artifact_says_what_it_serves(lsbuild: Lsbuild, artifact: Path) -> None:
    done = lsbuild("inspect", artifact, "--json")
    assert "/v1/workflows/{name}/runs" in json.dumps(done.json)
