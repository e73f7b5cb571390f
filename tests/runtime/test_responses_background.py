"""Responses that nobody waits for: queued, followed from any event on, cancelled, given up by a server that goes down."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from live_server import eventually
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Context, Request, Response
from lsbuild_runtime.responses.keeping import Responses
from responding import STATE, Actor, events_of, opened, respond, settled, text_of
from runtime_asking import Answer, asked


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """The application."""
    with opened(tmp_path) as made:
        yield made


def actor(app: App) -> Actor:
    """Its model."""
    found: Actor = app.services.get("inference", "actor")
    return found


def started(app: App, script: str, **fields: Any) -> str:
    """The id of a response in the background whose model stands before its gate."""
    answer = respond(app, script, background=True, **fields)
    assert answer.status == 200, answer.body
    assert actor(app).waiting.wait(20)
    return str(answer.json["id"])


def followed(app: App, response_id: str, **query: str) -> list[Any]:
    """Its events until it ends."""
    answer = asked(app, "GET", f"/v1/responses/{response_id}", query={"stream": "true", **query})
    assert answer.status == 200, answer.body
    return events_of(answer)


def test_a_response_in_the_background_is_queued_then_done(app: App) -> None:
    response = respond(app, "say Hello", background=True).json
    assert (response["status"], response["background"], response["output"]) == ("queued", True, [])
    done = settled(app, response["id"])
    assert (done["status"], text_of(done), done["store"]) == ("completed", "Hello", True)


def test_its_events_can_be_followed_while_it_is_under_way_and_after(app: App) -> None:
    response = started(app, "say One ; wait ; say Two")
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(followed(app, response)))
    thread.start()
    actor(app).gate.set()
    thread.join(20)
    assert [event["type"] for event in seen[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert (seen[0]["response"]["status"], seen[-1]["type"]) == ("queued", "response.completed")
    assert followed(app, response) == seen
    assert followed(app, response, starting_after="3") == seen[4:]
    assert followed(app, response, starting_after=str(len(seen))) == []
    assert asked(app, "GET", f"/v1/responses/{response}").json == seen[-1]["response"]


def test_the_request_itself_can_be_the_stream(app: App) -> None:
    answer = respond(app, 'call echo {"text": "a"}\nsay Done', "agent", background=True, stream=True)
    events = events_of(answer)
    assert [event["type"] for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert events[-1]["response"]["status"] == "completed"
    assert followed(app, events[0]["response"]["id"]) == events


def test_a_follower_that_goes_away_stops_nothing(app: App) -> None:
    response = started(app, "wait ; say Hello")
    context = Context()
    stream = app.handle(Request("GET", f"/v1/responses/{response}", {"stream": "true"}, context=context))
    assert not isinstance(stream.body, bytes)
    chunks = iter(stream.body)
    assert b"response.created" in next(chunks)
    context.cancel.set()
    assert list(chunks)[-1].startswith(b"event: response.")  # it ends where its client is gone
    actor(app).gate.set()
    assert settled(app, response)["status"] == "completed"


def test_a_response_under_way_is_cancelled(app: App) -> None:
    response = started(app, 'call echo {"text": "a"}\nsay One ; wait ; say Two', model="agent")
    cancelled = asked(app, "POST", f"/v1/responses/{response}/cancel", None).json
    assert (cancelled["status"], [each["type"] for each in cancelled["output"]]) == ("cancelled", ["mcp_call"])
    assert asked(app, "POST", f"/v1/responses/{response}/cancel", None).json == cancelled
    assert actor(app).gate.is_set() is False
    second = respond(app, "say Hello", background=True).json
    assert text_of(settled(app, second["id"])) == "Hello"  # the worker is free again
    assert asked(app, "GET", f"/v1/responses/{response}").json == cancelled


def test_a_response_that_waits_is_cancelled_or_deleted_before_it_begins(app: App) -> None:
    first = started(app, "wait ; say Hello")
    asked_before = len(actor(app).asked)
    second, third = (respond(app, "say Two", background=True).json["id"] for _ in range(2))
    assert asked(app, "GET", f"/v1/responses/{second}").json["status"] == "queued"
    assert asked(app, "POST", f"/v1/responses/{second}/cancel", None).json["status"] == "cancelled"
    assert asked(app, "DELETE", f"/v1/responses/{third}").status == 200
    actor(app).gate.set()
    assert settled(app, first)["status"] == "completed"
    assert asked(app, "GET", f"/v1/responses/{second}").json["status"] == "cancelled"
    assert len(actor(app).asked) == asked_before


def test_what_fails_is_told_and_kept(app: App) -> None:
    response = respond(app, "fail 400", background=True).json["id"]
    done = settled(app, response)
    assert (done["status"], done["error"]["code"], done["error"]["type"]) == ("failed", "invalid_prompt", "overloaded")
    assert followed(app, response)[-1]["type"] == "response.failed"


def test_a_model_that_is_busy_is_asked_again(app: App) -> None:
    assert respond(app, "busy ; say Hello").status == 429  # a client that waits decides that itself
    response = respond(app, "busy ; say Hello", background=True).json["id"]
    assert text_of(settled(app, response)) == "Hello"
    assert actor(app).busy == 0


def test_an_end_that_cannot_be_kept_is_kept_later_and_nothing_is_done_twice(app: App) -> None:
    """The disk is full when the response ends: it goes on from its last step when there is room again."""
    records = app.kept(Responses).records
    full = [True]
    end = records.end

    def ended(*arguments: Any, **named: Any) -> bool:
        if full:
            full.pop()
            raise ApiError(507, "the disk is full", type="server_error", code="disk_full")
        return end(*arguments, **named)

    records.end = ended  # type: ignore[method-assign]
    response = respond(app, 'call echo {"text": "a"}\nsay Done', "agent", background=True).json["id"]
    assert eventually(lambda: not full)
    app.kept(Responses).wake()
    done = settled(app, response)
    assert (done["status"], text_of(done)) == ("completed", "Done")
    assert [each["type"] for each in done["output"]] == ["mcp_call", "message"]
    assert len(app.services.get("tool_runtime", "desk").made) == 1
    assert len(actor(app).asked) == 2  # the answer was there already
    assert done["usage"]["output_tokens"] == 5 + 1


def test_the_end_of_a_response_that_its_client_waits_for_is_kept_later_too(app: App) -> None:
    records = app.kept(Responses).records
    end, full = records.end, [True]

    def ended(*arguments: Any, **named: Any) -> bool:
        if full:
            full.pop()
            raise ApiError(507, "the disk is full", type="server_error", code="disk_full")
        return end(*arguments, **named)

    records.end = ended  # type: ignore[method-assign]
    last = respond(app, "say Done", stream=True).body.split(b"\n\n")[-2]
    assert last.startswith(b"event: error\n")
    assert b"disk_full" in last
    response = asked(app, "GET", "/v1/responses").json["data"][0]["id"]
    done = settled(app, response)
    assert (done["status"], text_of(done), len(actor(app).asked)) == ("completed", "Done", 1)


def test_a_response_cannot_follow_one_that_has_not_ended(app: App) -> None:
    response = started(app, "wait ; say Hello")
    answer = respond(app, "say Two", previous_response_id=response)
    assert (answer.status, answer.error["param"]) == (400, "previous_response_id")
    actor(app).gate.set()
    settled(app, response)
    assert respond(app, "say Two", previous_response_id=response).status == 200


def test_only_so_many_may_wait(tmp_path: Path) -> None:
    with opened(tmp_path, replace(STATE, config={"queue": 2})) as app:
        started(app, "wait ; say Hello")
        for _ in range(2):
            assert respond(app, "say Two", background=True).status == 200
        answer = respond(app, "say Two", background=True)
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (
            429,
            "rate_limit_exceeded",
            "10",
        )


def test_a_client_that_goes_away_cancels_what_it_waits_for(app: App) -> None:
    body = b'{"model": "actor", "input": "say One ; wait ; say Two", "stream": true}'
    context = Context()
    stream = app.handle(Request("POST", "/v1/responses", {}, {"content-type": "application/json"}, body, context))
    assert not isinstance(stream.body, bytes)
    chunks = iter(stream.body)
    next(chunks)
    context.cancel.set()
    list(chunks)
    listed = asked(app, "GET", "/v1/responses").json["data"]
    assert [each["status"] for each in listed] == ["cancelled"]
    assert listed[0]["output"][0]["status"] == "incomplete"


def test_a_response_that_another_server_deletes_while_its_client_waits_ends_with_an_error(app: App) -> None:
    body = b'{"model": "actor", "input": "say One ; wait ; say Two", "stream": true}'
    stream = app.handle(Request("POST", "/v1/responses", {}, {"content-type": "application/json"}, body))
    assert not isinstance(stream.body, bytes)
    chunks = iter(stream.body)
    next(chunks)
    response = asked(app, "GET", "/v1/responses").json["data"][0]["id"]
    assert app.kept(Responses).records.delete(response)
    actor(app).gate.set()
    last = list(chunks)[-1]
    assert last.startswith(b"event: error\n")
    assert b'"code":"response_lost"' in last
    assert asked(app, "GET", "/v1/responses").json["data"] == []


def test_a_server_that_goes_down_leaves_its_work_to_the_next(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        response = started(app, 'call echo {"text": "a"}\nsay One ; wait ; say Two', model="agent")
        seen: list[bytes] = []
        follows = threading.Event()
        follower = threading.Thread(target=functools.partial(_follow, app, response, seen, follows))
        follower.start()
        assert follows.wait(20)
        assert len(app.services.get("tool_runtime", "desk").made) == 1
    follower.join(20)
    with opened(tmp_path, started=False) as app:
        assert asked(app, "GET", f"/v1/responses/{response}").json["status"] == "in_progress"
        actor(app).gate.set()
        app.start()
        done = settled(app, response)
        assert (done["status"], text_of(done)) == ("completed", "OneTwo")
        assert [each["type"] for each in done["output"]] == ["mcp_call", "message"]
        assert app.services.get("tool_runtime", "desk").made == []  # the finished step is not run again
        assert done["usage"]["output_tokens"] == 5 + 2
        last = events_of(Answer(Response(body=seen)))[-1]["sequence_number"]
        rest = followed(app, response, starting_after=str(last))
        assert (rest[0]["type"], rest[-1]["response"]) == ("response.in_progress", done)
        assert [each["type"] for each in rest[0]["response"]["output"]] == ["mcp_call"]


def _follow(app: App, response: str, seen: list[bytes], follows: threading.Event) -> None:
    stream = app.handle(Request("GET", f"/v1/responses/{response}", {"stream": "true"}))
    assert not isinstance(stream.body, bytes)
    for chunk in stream.body:
        seen.append(chunk)
        if b"One" in chunk:
            follows.set()


def test_a_response_that_its_client_waited_for_goes_on_too(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        body = b'{"model": "actor", "input": "say One ; wait ; say Two", "stream": true}'
        stream = app.handle(Request("POST", "/v1/responses", {}, {"content-type": "application/json"}, body))
        assert not isinstance(stream.body, bytes)
        chunks = iter(stream.body)
        next(chunks)
        app.draining = True
        stream.body.close()  # type: ignore[attr-defined]
    with opened(tmp_path, started=False) as app:
        actor(app).gate.set()
        app.start()
        response = asked(app, "GET", "/v1/responses").json["data"][0]["id"]
        done = settled(app, response)
        assert (done["status"], text_of(done), done["background"]) == ("completed", "OneTwo", False)
