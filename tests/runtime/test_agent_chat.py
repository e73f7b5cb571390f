"""An agent with tools behind the API: chats whole and streamed, the functions of the client, its log line, and bad tools."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lsbuild_runtime.app import App
from lsbuild_runtime.watch import JsonWatch
from runtime_asking import Ask, asked
from scripted import KIT, Step, agent_of, call, scripted
from small_services import SHELF, small_manifest

CHAT = "/v1/chat/completions"
LOG: list[str] = []
SERVICES = (
    SHELF,
    KIT,
    scripted("caller", Step("Let me see. ", [("echo", {"text": "a"})]), Step("It says <a>.")),
    scripted("breaker", call("broken"), Step("It broke.")),
    scripted("searcher", call("file_search", {"query": "valve"}), Step("[1]: A valve closes slowly.")),
    scripted("client", Step(calls=[("theirs", {}), ("echo", {"text": "x"})])),
    scripted("forever", call("echo", {"text": "x"})),
    agent_of("caller", "kit"),
    agent_of("breaker", "kit"),
    agent_of("searcher", "file_search", vector_stores=["manuals"]),
    scripted("small", Step("[1]: A valve closes slowly.")),
    agent_of("client", "kit"),
    agent_of("small", "file_search", "kit", vector_stores=["manuals"], search="first"),
    agent_of("forever", "kit", wall=60.0),
)


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """A fresh application: a script is said once."""
    LOG.clear()
    app = App(small_manifest(SERVICES), tmp_path, lambda request_id: JsonWatch(request_id, LOG.append))
    return functools.partial(asked, app)


def body(model: str, **more: Any) -> dict[str, Any]:
    """A chat with one question."""
    return {"model": f"{model}-agent", "messages": [{"role": "user", "content": "?"}], **more}


def test_the_calls_of_the_server_are_not_the_clients_business(ask: Ask) -> None:
    answer = ask("POST", CHAT, body("caller")).json
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "Let me see. It says <a>."
    assert choice["message"].get("tool_calls") is None
    assert answer["usage"]["completion_tokens"] == 4 + 5 + 3


def test_a_stream_says_the_same(ask: Ask) -> None:
    events = ask("POST", CHAT, body("caller", stream=True, stream_options={"include_usage": True})).events
    pieces = [event["choices"][0] for event in events if event["choices"]]
    assert "".join(piece["delta"].get("content") or "" for piece in pieces) == "Let me see. It says <a>."
    assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == ["stop"]
    assert events[-1]["usage"]["completion_tokens"] == 12


def test_a_search_of_the_model_is_cited(ask: Ask) -> None:
    message = ask("POST", CHAT, body("searcher")).json["choices"][0]["message"]
    assert [each["file_citation"]["quote"] for each in message["annotations"]] == ["A valve closes slowly."]


def test_a_search_that_the_run_begins_with_is_cited_and_no_call_of_the_answer(ask: Ask) -> None:
    message = ask("POST", CHAT, body("small", messages=[{"role": "user", "content": "valve"}])).json["choices"][0][
        "message"
    ]
    assert [each["file_citation"]["quote"] for each in message["annotations"]] == ["A valve closes slowly."]
    assert message.get("tool_calls") is None


def test_functions_of_the_client_come_back_to_it(ask: Ask) -> None:
    tools = [{"type": "function", "function": {"name": "theirs", "parameters": {"type": "object"}}}]
    (choice,) = ask("POST", CHAT, body("client", tools=tools)).json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [each["function"]["name"] for each in choice["message"]["tool_calls"]] == ["theirs"]


def test_what_a_tool_breaks_is_in_the_log_and_the_run_goes_on(ask: Ask) -> None:
    assert ask("POST", CHAT, body("breaker")).json["choices"][0]["message"]["content"] == "It broke."
    (line,) = (msgspec.json.decode(line) for line in LOG)
    spans = {span["name"]: span for span in line["spans"]}
    assert spans["execute_tool broken"]["lsbuild.tool.outcome"] == "failed"
    assert spans["execute_tool broken"]["error.type"] == "RuntimeError"
    assert {"invoke_agent breaker-agent", "chat"} <= spans.keys()


def test_a_model_that_calls_forever_is_cut(ask: Ask) -> None:
    (choice,) = ask("POST", CHAT, body("forever")).json["choices"]
    assert choice["finish_reason"] == "stop"
    spans = [span for span in msgspec.json.decode(LOG[0])["spans"] if span["name"] == "execute_tool echo"]
    assert [span.get("lsbuild.tool.rule", "") for span in spans] == ["", "", "", "repeated"]


def test_more_than_one_answer_is_refused(ask: Ask) -> None:
    answer = ask("POST", CHAT, body("caller", n=2))
    assert (answer.status, answer.error["param"]) == (400, "n")


def test_the_log_names_no_text(ask: Ask) -> None:
    ask("POST", CHAT, body("caller"))
    assert "Let me see" not in LOG[0]
    assert "<a>" not in LOG[0]
