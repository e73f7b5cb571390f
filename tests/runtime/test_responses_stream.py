"""The events of a response: every kind of item, in OpenAI's order, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import TypeAdapter

from lsbuild_runtime.app import App
from responding import opened, respond, streamed, text_of

OPENAI = TypeAdapter[Any](openai.types.responses.ResponseStreamEvent)
TEXT = [
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
]
MCP = ["response.mcp_call.in_progress", "response.mcp_call_arguments.delta", "response.mcp_call_arguments.done"]

PIECES = {
    "output_text": "text", "refusal": "refusal", "function_call_arguments": "arguments", "mcp_call_arguments": "arguments",
    "reasoning_text": "text", "reasoning_summary_text": "text",
}  # fmt: skip
"""What comes in deltas, and what holds the whole of it in the end."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The application."""
    with opened(tmp_path_factory.mktemp("stream")) as made:
        yield made


def item(*between: str) -> list[str]:
    """The types of the events of one item."""
    return ["response.output_item.added", *between, "response.output_item.done"]


def run(app: App, script: Any, model: str = "actor", **fields: Any) -> tuple[list[str], list[Any]]:
    """The types of the events of a run between its beginning and its end, and all events.

    Every event is read by the official client's types, and what the stream says in pieces is what it says in the end.
    """
    events = streamed(app, script, model, **fields)
    for event in events:
        OPENAI.validate_python(event)
    types = [event["type"] for event in events]
    assert types[:2] == ["response.created", "response.in_progress"]
    assert types[-1] in ("response.completed", "response.incomplete", "response.failed")
    added_up(events)
    return types[2:-1], events


def added_up(events: list[Any]) -> None:
    """What came in pieces is what the last event holds."""
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]
    added = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == list(range(len(added)))
    assert [event["item"]["id"] for event in added] == [item["id"] for item in done]
    assert all(event["item"].get("status", "in_progress") == "in_progress" for event in added)
    assert len({item["id"] for item in done}) == len(done)
    for kind, parts in PIECES.items():
        for event in events:
            if event["type"] == f"response.{kind}.done":
                pieces = [each["delta"] for each in events
                          if each["type"] == f"response.{kind}.delta" and each["item_id"] == event["item_id"]]  # fmt: skip
                assert "".join(pieces) == event[parts]


def test_text(app: App) -> None:
    types, events = run(app, "say Hello there")
    assert types == item(TEXT[0], TEXT[1], TEXT[1], *TEXT[2:])
    response = events[-1]["response"]
    assert (response["status"], text_of(response)) == ("completed", "Hello there")
    assert response["completed_at"] >= response["created_at"]
    assert response["usage"]["total_tokens"] == 12
    assert response["usage"]["input_tokens_details"]["cached_tokens"] == 2


def test_log_probabilities_come_where_they_are_included(app: App) -> None:
    _, events = run(app, "say Hello there", include=["message.output_text.logprobs"], top_logprobs=2)
    part = events[-1]["response"]["output"][0]["content"][0]
    assert [token["token"] for token in part["logprobs"]] == ["Hello", " there"]
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [token for event in deltas for token in event["logprobs"]] == part["logprobs"]
    assert run(app, "say Hello")[1][-1]["response"]["output"][0]["content"][0]["logprobs"] == []


def test_reasoning_before_an_answer_and_as_a_summary(app: App) -> None:
    thought = item(
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
    )
    types, events = run(app, "think Hm ; say Yes")
    assert types == [*thought, *item(*TEXT)]
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    types, events = run(app, "think Hm ; say Yes", reasoning={"summary": "auto"})
    assert types[:6] == item(
        "response.reasoning_summary_part.added", "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done", "response.reasoning_summary_part.done",
    )  # fmt: skip
    assert events[-1]["response"]["output"][0]["summary"] == [{"type": "summary_text", "text": "Hm"}]


def test_a_refusal_is_an_answer(app: App) -> None:
    types, events = run(app, "refuse No")
    kinds = ("content_part.added", "refusal.delta", "refusal.done", "content_part.done")
    assert types == item(*(f"response.{kind}" for kind in kinds))
    response = events[-1]["response"]
    assert response["status"] == "completed"
    assert response["output"][0]["content"] == [{"type": "refusal", "refusal": "No"}]


def test_text_and_a_refusal_are_parts_of_one_message(app: App) -> None:
    types, events = run(app, "say Well ; refuse No")
    assert types.count("response.output_item.added") == 1
    places = [event["content_index"] for event in events if event["type"] == "response.content_part.added"]
    assert places == [0, 1]


FUNCTION = {"type": "function", "name": "look", "parameters": {"type": "object"}}


def test_calls_of_the_clients_functions(app: App) -> None:
    types, events = run(app, 'say Wait ; call look {"a":1} ; call look {"a":2}', tools=[FUNCTION])
    call = item("response.function_call_arguments.delta", "response.function_call_arguments.done")
    assert types == [*item(*TEXT), *call, *call]
    response = events[-1]["response"]
    assert response["status"] == "completed"
    calls = response["output"][1:]
    assert [(call["name"], call["arguments"], call["status"]) for call in calls] == [
        ("look", '{"a":1}', "completed"), ("look", '{"a":2}', "completed"),
    ]  # fmt: skip
    assert len({call["call_id"] for call in calls}) == 2


def test_a_search_of_files_and_what_the_answer_cites(app: App) -> None:
    tool = {"type": "file_search", "vector_store_ids": ["manuals"], "max_num_results": 1}
    script = 'call file_search {"query": "red pump"}\nsay See [1]: needs oil every week.'
    types, events = run(app, script, tools=[tool])
    search = item(*(f"response.file_search_call.{kind}" for kind in ("in_progress", "searching", "completed")))
    assert types[:5] == search
    assert types[-4:] == ["response.output_text.annotation.added", *TEXT[2:], "response.output_item.done"]
    found, message = events[-1]["response"]["output"]
    assert (found["queries"], found["results"], found["status"]) == (["red pump"], None, "completed")
    cited = message["content"][0]["annotations"][0]
    assert (cited["type"], cited["file_id"], cited["filename"], cited["index"]) == (
        "file_citation",
        "file-1",
        "manual.md",
        4,
    )
    assert (cited["quote"], cited["vector_store_id"]) == ("needs oil every week.", "manuals")
    _, events = run(app, script, tools=[tool], include=["file_search_call.results"])
    results = events[-1]["response"]["output"][0]["results"]
    assert [result["text"] for result in results] == ["The red pump needs oil every week."]


def test_a_server_of_the_spec_lists_its_tools_then_is_called(app: App) -> None:
    tool = {"type": "mcp", "server_label": "desk", "allowed_tools": ["echo", "fail"], "require_approval": "never"}
    types, events = run(app, 'call echo {"text": "a"}\ncall fail\ncall nothing\nsay Done', tools=[tool])
    listed = item("response.mcp_list_tools.in_progress", "response.mcp_list_tools.completed")
    assert types[:4] == listed
    assert types[4:10] == item(*MCP, "response.mcp_call.completed")
    assert types[10:16] == item(*MCP, "response.mcp_call.failed")
    tools, echo, fail, unknown, _ = events[-1]["response"]["output"]
    assert [each["name"] for each in tools["tools"]] == ["echo", "fail"]
    assert (echo["server_label"], echo["output"], echo["error"], echo["status"]) == ("desk", "<a>", None, "completed")
    assert (fail["output"], fail["status"], fail["error"]["content"]) == (
        None, "failed", [{"type": "text", "text": "the pump is off"}],
    )  # fmt: skip
    assert (unknown["server_label"], unknown["name"], unknown["status"]) == ("unknown", "nothing", "failed")


def test_the_tools_of_an_agent_are_calls_of_servers_by_their_key(app: App) -> None:
    types, events = run(app, 'call echo {"text": "a"} ; call file_search {"query": "red"}\nsay Done', "agent")
    assert types[:4] == ["response.output_item.added", *MCP]
    kinds = [each["type"] for each in events[-1]["response"]["output"]]
    assert kinds == ["mcp_call", "file_search_call", "message"]
    assert events[-1]["response"]["output"][0]["server_label"] == "desk"


def test_a_search_of_the_web(app: App) -> None:
    script = 'call web_search {"query": "pumps"}\nsay Done'
    types, events = run(app, script, tools=[{"type": "web_search_preview"}])
    assert types[:5] == item(
        *(f"response.web_search_call.{kind}" for kind in ("in_progress", "searching", "completed"))
    )
    found = events[-1]["response"]["output"][0]
    assert (found["action"]["query"], found["status"]) == ("pumps", "completed")
    assert "results" not in found
    model: Any = app.services.get("inference", "actor")
    assert model.asked[-1].messages[-1]["content"] == "pages about pumps"


def test_approval_is_asked_for_and_answered(app: App) -> None:
    types, events = run(app, "call order\nsay Done", "agent")
    assert types == item()
    first = events[-1]["response"]
    asked = first["output"][0]
    assert (first["status"], asked["type"], asked["server_label"], asked["name"]) == (
        "completed", "mcp_approval_request", "desk", "order",
    )  # fmt: skip
    answer = {"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": True}
    types, events = run(app, [answer], "agent", previous_response_id=first["id"])
    call, message = events[-1]["response"]["output"]
    assert (call["output"], call["approval_request_id"], call["status"]) == ("ordered", asked["id"], "completed")
    assert message["content"][0]["text"] == "Done"


def test_a_call_that_a_person_does_not_allow(app: App) -> None:
    first = run(app, "call order\nsay Done", "agent")[1][-1]["response"]
    answer = {"type": "mcp_approval_response", "approval_request_id": first["output"][0]["id"], "approve": False,
              "reason": "too dear"}  # fmt: skip
    sent = ["call order\nsay Done", first["output"][0], answer]
    items = [{"role": "user", "content": sent[0]}, *sent[1:]]
    response = run(app, items, "agent", store=False)[1][-1]["response"]
    assert response["output"][0]["status"] == "failed"
    assert "too dear" in response["output"][0]["error"]["message"]


def test_a_client_may_ask_for_approval_that_the_spec_does_not(app: App) -> None:
    tool = {"type": "mcp", "server_label": "desk", "require_approval": {"never": {"tool_names": ["fail", "order"]}}}
    kinds = [each["type"] for each in run(app, 'call echo {"text": "a"}', tools=[tool])[1][-1]["response"]["output"]]
    assert kinds == ["mcp_list_tools", "mcp_approval_request"]
    kinds = [each["type"] for each in run(app, "call order", tools=[tool])[1][-1]["response"]["output"]]
    assert kinds[1] == "mcp_approval_request"  # the spec asks for it: a client cannot say never


def test_what_is_over_a_limit_is_incomplete(app: App) -> None:
    words = "say " + " ".join(["word"] * 20)
    _, events = run(app, words, max_output_tokens=16)
    response = events[-1]["response"]
    assert (response["status"], response["incomplete_details"]["reason"]) == ("incomplete", "max_output_tokens")
    assert response["output"][-1]["status"] == "incomplete"
    tool = {"type": "mcp", "server_label": "desk", "require_approval": "never"}
    script = "\n".join(f'call echo {{"text": "{number}"}}' for number in range(5))
    _, events = run(app, script, tools=[tool], max_infer_iters=2)
    response = events[-1]["response"]
    assert response["incomplete_details"] == {"reason": "max_messages", "limit": "steps"}
    assert sum(each["type"] == "mcp_call" for each in response["output"]) == 2
    _, events = run(app, script, tools=[tool], max_tool_calls=1)
    calls = [each for each in events[-1]["response"]["output"] if each["type"] == "mcp_call"]
    assert [call["status"] for call in calls] == ["completed", "failed"]


def test_an_error_before_the_first_event_has_its_status(app: App) -> None:
    answer = respond(app, "fail 429", stream=True)
    assert (answer.status, answer.error["code"]) == (429, "overloaded")


def test_an_error_after_it_ends_the_stream_as_failed(app: App) -> None:
    types, events = run(app, 'say Wait ; call echo {"text": "a"}\nsay So ; fail 503', "agent")
    response = events[-1]["response"]
    assert response["status"] == "failed"
    assert (response["error"]["code"], response["error"]["type"]) == ("server_error", "overloaded")
    assert response["output"][-1]["status"] == "incomplete"
    assert types[-1] == "response.output_item.done"


def test_a_fault_of_the_server_is_told_without_what_it_says(app: App) -> None:
    _, events = run(app, 'call echo {"text": "a"}\nbreak', "agent")
    error = events[-1]["response"]["error"]
    assert error["code"] == "server_error"
    assert "a fault of the model" not in error["message"]


def test_a_response_that_is_not_streamed_is_the_last_event(app: App) -> None:
    script = 'think Hm ; call echo {"text": "a"}\nsay Done'
    whole = respond(app, script, "agent").json
    last = run(app, script, "agent")[1][-1]["response"]
    for response in (whole, last):
        for name in ("id", "created_at", "completed_at"):
            del response[name]
        for each in response["output"]:
            del each["id"]
    assert whole == last
