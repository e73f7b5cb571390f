"""Conversations: made, changed, read page by page, added to by responses, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsbuild_runtime.app import App
from responding import opened, respond, settled, streamed, text_of
from runtime_asking import asked

BASE = "/v1/conversations"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """The application."""
    with opened(tmp_path) as made:
        yield made


def created(app: App, *texts: str, **fields: Any) -> str:
    """The id of a new conversation in which a user said these things."""
    items = [{"role": "user", "content": text} for text in texts]
    answer = asked(app, "POST", BASE, {"items": items, **fields})
    assert answer.status == 200, answer.body
    return str(answer.json["id"])


def texts(app: App, conversation: str, **query: str) -> list[str]:
    """What was said in it, oldest first."""
    answer = asked(app, "GET", f"{BASE}/{conversation}/items", query={"order": "asc", **query})
    assert answer.status == 200, answer.body
    return [part["text"] for each in answer.json["data"] for part in each.get("content", [])]


def test_a_conversation_is_made_changed_and_deleted(app: App) -> None:
    made = asked(app, "POST", BASE, {"metadata": {"topic": "pumps"}}).json
    assert made == {
        "id": made["id"],
        "object": "conversation",
        "created_at": made["created_at"],
        "metadata": {"topic": "pumps"},
    }
    assert made["id"].startswith("conv_")
    path = f"{BASE}/{made['id']}"
    assert asked(app, "GET", path).json == made
    assert asked(app, "POST", path, {"metadata": {"topic": "valves"}}).json["metadata"] == {"topic": "valves"}
    assert asked(app, "POST", path, {"metadata": None}).json["metadata"] == {}
    assert asked(app, "DELETE", path).json == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
    for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/items"), ("GET", "/items/x"), ("DELETE", "/items/x")):
        answer = asked(app, method, path + rest)
        assert (answer.status, answer.error["code"]) == (404, "conversation_not_found")
    for rest, body in (("", {"metadata": {}}), ("/items", {"items": [{"role": "user", "content": "x"}]})):
        assert asked(app, "POST", path + rest, body).status == 404


def test_an_empty_body_makes_an_empty_conversation(app: App) -> None:
    made = asked(app, "POST", BASE, None)
    assert (made.status, made.json["metadata"]) == (200, {})


def test_items_are_added_read_and_taken_out(app: App) -> None:
    conversation = created(app, "one", "two")
    path = f"{BASE}/{conversation}/items"
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    added = asked(app, "POST", path, {"items": [{"role": "assistant", "content": "three"}, call]}).json
    assert ([each["type"] for each in added["data"]], added["has_more"]) == (["message", "function_call"], False)
    assert added["data"][0]["content"][0] == {"type": "output_text", "text": "three", "annotations": [], "logprobs": []}
    assert texts(app, conversation) == ["one", "two", "three"]
    found = asked(app, "GET", f"{path}/{added['first_id']}").json
    assert (found["role"], found["status"]) == ("assistant", "completed")
    assert asked(app, "DELETE", f"{path}/{added['first_id']}").json["id"] == conversation
    assert asked(app, "GET", f"{path}/{added['first_id']}").error["code"] == "not_found"
    assert asked(app, "DELETE", f"{path}/{added['first_id']}").status == 404
    assert texts(app, conversation) == ["one", "two"]


def test_items_are_read_page_by_page(app: App) -> None:
    conversation = created(app, *map(str, range(7)))
    path = f"{BASE}/{conversation}/items"
    newest = asked(app, "GET", path, query={"limit": "3"}).json
    assert [each["content"][0]["text"] for each in newest["data"]] == ["6", "5", "4"]
    assert newest["has_more"]
    rest = asked(app, "GET", path, query={"limit": "5", "after": newest["last_id"]}).json
    assert ([each["content"][0]["text"] for each in rest["data"]], rest["has_more"]) == (["3", "2", "1", "0"], False)
    assert asked(app, "GET", path, query={"after": "x"}).error["param"] == "after"
    assert asked(app, "GET", path, query={"limit": "101"}).error["param"] == "limit"
    assert asked(app, "GET", path, query={"before": "x"}).error["param"] == "before"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [{"role": "user", "content": "x"}] * 21}, "items"),
        ({"items": [{"type": "nothing"}]}, "items[0].type"),
        ({"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0].type"),
        ({"metadata": {f"k{number}": "v" for number in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata[...]"),
        ({"metadata": {"k": 1}}, "metadata[...]"),
        ({"other": 1}, "other"),
    ],
)
def test_refusals_name_the_parameter(app: App, body: Any, param: str) -> None:
    answer = asked(app, "POST", BASE, body)
    assert (answer.status, answer.error["param"]) == (400, param)


def test_a_response_reads_a_conversation_and_adds_to_it(app: App) -> None:
    conversation = created(app, "I am Ada.")
    first = respond(app, "say Hello", conversation=conversation).json
    assert first["conversation"] == {"id": conversation}
    assert texts(app, conversation) == ["I am Ada.", "say Hello", "Hello"]
    last = streamed(app, 'call echo {"text": "a"}\nsay Bye', "agent", conversation={"id": conversation})[-1]
    assert last["type"] == "response.completed"
    actor: Any = app.services.get("inference", "actor")
    assert [each["content"] for each in actor.asked[-1].messages[:4]] == [
        "I am Ada.",
        "say Hello",
        "Hello",
        'call echo {"text": "a"}\nsay Bye',
    ]
    listed = asked(app, "GET", f"{BASE}/{conversation}/items", query={"order": "asc"}).json["data"]
    assert [each["type"] for each in listed] == ["message", "message", "message", "message", "mcp_call", "message"]
    assert listed[2]["id"] == first["output"][0]["id"]


def test_a_response_that_failed_adds_nothing(app: App) -> None:
    conversation = created(app)
    assert (
        streamed(app, 'call echo {"text": "a"}\nfail 503', "agent", conversation=conversation)[-1]["type"]
        == "response.failed"
    )
    assert respond(app, "fail 503", conversation=conversation).status == 503
    assert texts(app, conversation) == []
    assert respond(app, "say Hello", conversation=conversation).status == 200


def test_a_conversation_takes_one_response_at_a_time(app: App) -> None:
    conversation = created(app)
    actor: Any = app.services.get("inference", "actor")
    first = respond(app, "wait ; say Hello", conversation=conversation, background=True).json
    assert actor.waiting.wait(20)
    answer = respond(app, "say Bye", conversation=conversation)
    assert (answer.status, answer.error["code"]) == (409, "conversation_locked")
    actor.gate.set()
    assert text_of(settled(app, first["id"])) == "Hello"
    assert respond(app, "say Bye", conversation=conversation).status == 200
    assert texts(app, conversation) == ["wait ; say Hello", "Hello", "say Bye", "Bye"]


def test_a_conversation_may_go_while_a_response_of_it_is_under_way(app: App) -> None:
    conversation = created(app)
    actor: Any = app.services.get("inference", "actor")
    first = respond(app, "wait ; say Hello", conversation=conversation, background=True).json
    assert actor.waiting.wait(20)
    assert asked(app, "DELETE", f"{BASE}/{conversation}").status == 200
    actor.gate.set()
    assert settled(app, first["id"])["status"] == "completed"
    assert asked(app, "GET", f"{BASE}/{conversation}").status == 404


def test_a_response_that_is_not_stored_reads_a_conversation_and_leaves_it(app: App) -> None:
    conversation = created(app, "I am Ada.")
    answer = respond(app, "say Hello", conversation=conversation, store=False)
    assert answer.status == 200
    assert texts(app, conversation) == ["I am Ada."]
