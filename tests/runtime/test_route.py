"""A route before real little servers that fail in every known way, and before models of this process."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from failing_server import Behaviour, Upstream, fault, hangs, resets, sends, status
from live_server import eventually, serving
from lsbuild_runtime.app import App
from lsbuild_runtime.http import Context, Request
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.watch import JsonWatch
from runtime_asking import Answer, asked
from small_services import CONTEXT, LETTERS, PARROT, SHELF, SLOW, small_manifest

CHAT = "/v1/chat/completions"


def says(text: str, after: float = 0.0) -> Behaviour:
    """A good answer, as a stream or whole: clients of both kinds read this one."""

    def behave(connection: socket.socket, _upstream: Upstream) -> None:
        time.sleep(after)
        connection.sendall(STREAM + event(text) + FINISH)

    return behave


def whole(text: str) -> Behaviour:
    """A good answer that does not stream."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return status(200, {"choices": [choice], "usage": {"prompt_tokens": 4, "completion_tokens": 2}})


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
FINISH = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)
FILTERED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}\n\ndata: [DONE]\n\n'


def event(text: str) -> bytes:
    """A piece of a streamed answer."""
    return (
        b'data: {"choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}\n\n' % json.dumps(text).encode()
    )


def remote(name: str, base: str, **config: Any) -> Service:
    """A model of another server."""
    return Service(
        api="inference", name=name, provider="remote::openai", entry="lsbuild_plugins.openai.serve:open_inference",
        config={"base_url": base, "model": "m", **config}, metadata={"accepts": ["*"]},
    )  # fmt: skip


def route(*candidates: str | dict[str, Any], api: str = "inference", name: str = "best", **config: Any) -> Service:
    """A route over candidates, each a name or what the spec says of it."""
    listed = [{"model": each} if isinstance(each, str) else each for each in candidates]
    return Service(
        api=api, name=name, provider="inline::route", entry=f"lsbuild_runtime.federation.route:open_{api}",
        config={"candidates": listed, **config}, metadata={"accepts": ["*"]},
        needs=tuple(f"{api}/{each['model']}" for each in listed),
    )  # fmt: skip


class World:
    """An application with a route over little servers; ``lines`` is its log."""

    def __init__(self, folder: Path, routed: Service, upstreams: dict[str, Upstream], *more: Service) -> None:
        self.upstreams = upstreams
        self.lines: list[Any] = []
        services = [*(remote(name, each.base) for name, each in upstreams.items()), *more, routed]

        def observe(request_id: str) -> JsonWatch:
            return JsonWatch(request_id, lambda line: self.lines.append(json.loads(line)))

        self.app = App(small_manifest(services, concurrency=24), folder, observe)

    def ask(self, text: str = "hello", **more: Any) -> Answer:
        """One chat."""
        body = {"model": "best", "messages": [{"role": "user", "content": text}], **more}
        return asked(self.app, "POST", CHAT, body)

    def said(self, **more: Any) -> str:
        """What a streamed chat says, which must be well."""
        answer = self.ask(stream=True, **more)
        assert answer.status == 200, answer.body
        return "".join(each["choices"][0]["delta"].get("content", "") for each in answer.events)


Make = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Make]:
    """``world(route, *services, name=behaviour ...)``."""
    with ExitStack() as stack:

        def make(routed: Service, *more: Service, **behaviours: Behaviour) -> World:
            upstreams = {name: Upstream(behaviour) for name, behaviour in behaviours.items()}
            for each in upstreams.values():
                stack.callback(each.close)
            return World(tmp_path, routed, upstreams, *more)

        yield make


ALL = ["error", "timeout", "overload", "context_length", "safety", "cost"]


@pytest.mark.parametrize(
    ("failing", "outcome"),
    [
        (status(500, fault()), "error"),
        (status(401, fault()), "error"),
        (resets, "error"),
        (sends(b"SSH-2.0\r\n"), "error"),
        (sends(STREAM + b"data: nonsense\n\n"), "error"),
        (sends(STREAM + b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'), "error"),
        (sends(STREAM + b"data: [DONE]\n\n"), "error"),
        (hangs, "timeout"),
        (status(504, fault()), "timeout"),
        (status(429, fault(), "retry-after: 30"), "overload"),
        (status(503, fault(), "retry-after: 30"), "overload"),
        (status(400, fault("context_length_exceeded")), "context_length"),
        (
            status(400, {"object": "error", "message": "x", **fault(None, "maximum context length is 9")}),
            "context_length",
        ),
        (status(400, fault("content_filter")), "safety"),
        (sends(STREAM + FILTERED), "safety"),
        (status(402, fault()), "cost"),
        (status(429, fault("insufficient_quota")), "cost"),
    ],
)
def test_a_stream_that_fails_before_its_first_token_moves_on(world: Make, failing: Behaviour, outcome: str) -> None:
    made = world(
        route({"model": "edge", "timeout": 0.3}, {"model": "cloud", "on": [outcome]}), edge=failing, cloud=says("good")
    )
    answer = made.ask(stream=True)
    assert answer.status == 200, answer.body
    assert answer.events[0]["choices"][0]["delta"] == {"role": "assistant", "content": "good"}
    assert answer.headers["x-lsbuild-model"] == "cloud"
    assert answer.headers["x-lsbuild-attempts"] == f"edge={outcome}, cloud=ok"
    assert answer.events[0]["metadata"] == {
        "lsbuild_model": "cloud",
        "lsbuild_attempts": f"edge={outcome}, cloud=ok",
    }
    assert [each for each in answer.events if "metadata" in each] == answer.events[:1]
    spans = {span["name"]: span["lsbuild.outcome"] for span in made.lines[0]["spans"] if "lsbuild.outcome" in span}
    assert spans == {"attempt edge": outcome, "attempt cloud": "ok"}
    assert made.lines[0]["counts"]["lsbuild.route.attempts"] == 2


def test_a_failure_that_leads_to_nobody_is_told_as_it_is(world: Make) -> None:
    made = world(
        route("edge", {"model": "cloud", "on": ["context_length"]}), edge=status(500, fault()), cloud=says("x")
    )
    answer = made.ask()
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    assert answer.headers["x-lsbuild-attempts"] == "edge=error"
    assert "x-lsbuild-model" not in answer.headers
    assert made.upstreams["cloud"].asked == 0


def test_a_fault_of_the_request_is_not_sent_around(world: Make) -> None:
    made = world(
        route("edge", {"model": "cloud", "on": ALL}), edge=status(400, fault("bad", "bad seed")), cloud=says("x")
    )
    answer = made.ask()
    assert (answer.status, answer.error["code"]) == (400, "bad")
    assert made.upstreams["cloud"].asked == 0


def test_a_candidate_that_is_late_is_not_the_clients_fault(world: Make) -> None:
    made = world(route({"model": "edge", "timeout": 0.2}), edge=hangs)
    answer = made.ask()
    assert (answer.status, answer.error["code"]) == (503, "attempt_timeout")
    assert "no first token within 0.2 s" in answer.error["message"]
    assert eventually(made.upstreams["edge"].gone.is_set)


def test_the_requests_own_deadline_ends_the_course(world: Make) -> None:
    made = world(route("edge", {"model": "cloud", "on": ALL}), edge=hangs, cloud=says("late"))
    body = json.dumps({"model": "best", "messages": [{"role": "user", "content": "x"}]}).encode()
    context = Context(deadline=time.monotonic() + 0.2)
    response = made.app.handle(Request("POST", CHAT, {}, {}, body, context))
    assert response.status == 408
    assert made.upstreams["cloud"].asked == 0


def test_when_nobody_can_the_error_says_what_each_said(world: Make) -> None:
    busy = status(429, fault(None, "slow down"), "retry-after: 9")
    made = world(route("edge", "cloud"), edge=status(500, fault(None, "on fire")), cloud=busy)
    answer = made.ask()
    assert (answer.status, answer.headers["retry-after"]) == (429, "9")
    assert "'best'" in answer.error["message"]
    assert "on fire" in answer.error["message"] and "slow down" in answer.error["message"]
    again = made.ask()
    assert "left alone" in again.error["message"]
    assert made.upstreams["cloud"].asked == 1, "it said when it may be asked again"


def test_a_stream_that_breaks_after_its_first_token_says_so(world: Make) -> None:
    made = world(route("edge", "cloud"), edge=sends(STREAM + event("half an")), cloud=says("good"))
    answer = made.ask(stream=True)
    assert answer.events[0]["choices"][0]["delta"]["content"] == "half an"
    assert "the answer of model 'edge' broke off" in answer.events[-1]["error"]["message"]
    assert made.upstreams["cloud"].asked == 0
    made.upstreams["cloud"].behaviour = whole("good")


def test_an_answer_that_does_not_stream_may_break_anywhere(world: Make) -> None:
    cut = sends(b'HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{"choices":[')
    made = world(route("edge", "cloud"), edge=cut, cloud=whole("good"))
    answer = made.ask()
    assert answer.json["choices"][0]["message"]["content"] == "good"
    assert answer.json["metadata"]["lsbuild_model"] == "cloud"
    assert answer.json["usage"]["total_tokens"] == 6


def test_a_candidate_that_cannot_be_opened_has_failed(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    locked = remote("locked", "http://127.0.0.1:9/v1", api_key={"secret": "NO_SUCH_KEY"})
    made = world(route("locked", "cloud"), locked, cloud=says("good"))
    assert made.said() == "good"


def test_edge_first_with_a_larger_model_behind(world: Make) -> None:
    made = world(route("org/parrot", {"model": "cloud", "on": ["context_length"]}), PARROT, cloud=says("long"))
    assert made.said() == "hello"
    assert made.ask("w " * (CONTEXT + 1), stream=True).headers["x-lsbuild-model"] == "cloud"
    text = asked(made.app, "POST", "/v1/completions", {"model": "best", "prompt": "a b"})
    assert (text.json["choices"][0]["text"], text.json["metadata"]["lsbuild_model"]) == ("a b", "org/parrot")
    events = asked(made.app, "POST", "/v1/completions", {"model": "best", "prompt": "a b", "stream": True}).events
    assert ["metadata" in each for each in events] == [True, False, False, False]


def test_cloud_first_with_the_edge_behind_and_routes_of_routes(world: Make) -> None:
    inner = route("cloud", "other", name="clouds")
    made = world(route("clouds", "org/parrot"), PARROT, inner, cloud=resets, other=status(500, fault()))
    answer = made.ask(stream=True)
    assert answer.headers["x-lsbuild-model"] == "org/parrot"
    assert answer.headers["x-lsbuild-attempts"] == "clouds=error, cloud=error, other=error, org/parrot=ok"


def test_an_agent_may_have_a_route_as_its_model(world: Make) -> None:
    agent = Service(
        api="agents", name="helper", provider="inline::agent", entry="lsbuild_runtime.agents.service:open_agent",
        config={"model": "best", "vector_stores": ["manuals"], "passages": 2, "tokens": 64, "wall": 5.0},
    )  # fmt: skip
    made = world(route("cloud", "org/parrot"), PARROT, SHELF, agent, cloud=resets)
    answer = asked(
        made.app, "POST", CHAT, {"model": "helper", "messages": [{"role": "user", "content": "red pump oil"}]}
    )
    assert answer.headers["x-lsbuild-attempts"] == "cloud=error, org/parrot=ok"
    assert "The red pump needs oil" in answer.json["choices"][0]["message"]["content"]


def test_retries_wait_as_long_as_they_are_told(world: Make) -> None:
    made = world(route({"model": "edge", "retries": 1}), edge=status(429, fault(), "retry-after: 1"))
    start = time.monotonic()
    threading.Timer(0.5, lambda: setattr(made.upstreams["edge"], "behaviour", says("good"))).start()
    assert made.said() == "good"
    assert time.monotonic() - start >= 1.0
    assert made.upstreams["edge"].asked == 2


def test_nobody_waits_when_another_can_answer_at_once(world: Make) -> None:
    made = world(
        route({"model": "edge", "retries": 3}, "cloud"),
        edge=status(429, fault(), "retry-after: 5"), cloud=says("good"),
    )  # fmt: skip
    assert made.said() == "good"
    assert made.upstreams["edge"].asked == 1


def test_a_breaker_leaves_a_broken_candidate_alone(world: Make) -> None:
    made = world(
        route("edge", "cloud", breaker={"calls": 3, "open": 0.3}), edge=status(500, fault()), cloud=says("good")
    )
    for _ in range(6):
        assert made.said() == "good"
    assert made.upstreams["edge"].asked == 3
    made.upstreams["edge"].behaviour = says("back")
    assert eventually(lambda: made.said() == "back")
    assert made.upstreams["edge"].asked >= 4


def test_a_budget_that_is_spent_moves_on(world: Make) -> None:
    made = world(
        route({"model": "edge", "budget": {"requests_per_day": 1}}, {"model": "cloud", "on": ["cost"]}),
        edge=says("dear"), cloud=says("cheap"),
    )  # fmt: skip
    assert [made.said(), made.said()] == ["dear", "cheap"]


def test_a_conversation_keeps_its_candidate(world: Make) -> None:
    made = world(
        route({"model": "left", "weight": 1.0}, {"model": "right", "weight": 1.0}), left=says("l"), right=says("r")
    )
    keys = [f"user-{number}" for number in range(12)]
    names: tuple[dict[str, Any], ...] = tuple(
        each
        for key in keys
        for each in ({"user": key}, {"prompt_cache_key": key}, {"safety_identifier": key},
                     {"metadata": {"conversation_id": key}})
    )  # fmt: skip
    first = [made.said(**each) for each in names]
    assert set(first) == {"l", "r"}
    assert first == [made.said(**each) for each in names]
    assert all(len(set(first[place : place + 4])) == 1 for place in range(0, len(first), 4))


def test_hedging_takes_the_first_to_speak_and_stops_the_other(world: Make) -> None:
    made = world(route("edge", "cloud", hedge=0.1), edge=hangs, cloud=says("fast"))
    answer = made.ask(stream=True)
    assert answer.headers["x-lsbuild-attempts"] == "edge=cancelled, cloud=ok"
    assert answer.events[0]["choices"][0]["delta"]["content"] == "fast"
    assert eventually(made.upstreams["edge"].gone.is_set), "the loser's server sees the client leave"


def test_hedging_starts_nobody_while_the_first_is_quick(world: Make) -> None:
    made = world(route("edge", "cloud", hedge=5.0), edge=says("quick"), cloud=says("x"))
    assert made.said() == "quick"
    assert made.upstreams["cloud"].asked == 0
    made.upstreams["edge"].behaviour = status(500, fault())
    assert made.said() == "x", "a failure does not wait for the hedge"


@pytest.mark.parametrize("config", [{}, {"hedge": 1.0}])
def test_a_client_that_leaves_stops_the_answer(world: Make, config: dict[str, float]) -> None:
    def endless(connection: socket.socket, _upstream: Upstream) -> None:
        connection.sendall(STREAM)
        while True:
            connection.sendall(event("more "))
            time.sleep(0.01)

    made = world(route("edge", **config), edge=endless)
    body = json.dumps({"model": "best", "messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
    chunks: Any = made.app.handle(Request("POST", CHAT, {}, {}, body)).body
    assert [b"more" in next(chunks) for _ in range(50)] == [True] * 50
    chunks.close()
    assert eventually(made.upstreams["edge"].gone.is_set)


@contextmanager
def served(made: World) -> Iterator[openai.OpenAI]:
    """The official client before the served application."""
    with serving(made.app) as base, openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_official_client_sees_normal_answers(world: Make) -> None:
    made = world(route("edge", "cloud"), edge=resets, cloud=whole("good"))
    with served(made) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="best", messages=[{"role": "user", "content": "hello"}]
        )
        assert raw.headers["x-lsbuild-model"] == "cloud"
        assert raw.parse().choices[0].message.content == "good"
        made.upstreams["cloud"].behaviour = says("good")
        stream = client.chat.completions.create(
            model="best", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "good"


def test_no_request_is_lost_while_a_candidate_flaps(world: Make) -> None:
    moods = [whole("edge"), status(500, fault()), resets, status(429, fault(), "retry-after: 1"), hangs]
    lock = threading.Lock()
    turn = iter(range(10_000))

    def flapping(connection: socket.socket, upstream: Upstream) -> None:
        with lock:
            mood = moods[next(turn) % len(moods)]
        mood(connection, upstream)

    made = world(
        route({"model": "edge", "timeout": 0.3}, "cloud", breaker={"calls": 4, "open": 0.1}),
        edge=flapping, cloud=whole("cloud"),
    )  # fmt: skip
    with served(made) as client, ThreadPoolExecutor(20) as pool:

        def one(_: int) -> str:
            answer = client.chat.completions.create(model="best", messages=[{"role": "user", "content": "hello"}])
            return answer.choices[0].message.content or ""

        answers = list(pool.map(one, range(100)))
    assert len(answers) == 100 and {"cloud"} <= set(answers) <= {"edge", "cloud"}
    assert made.upstreams["edge"].asked > 1, "it was tried again and again"


def vectors(name: str, base: str) -> Service:
    """An embedding model of another server."""
    return Service(
        api="embeddings", name=name, provider="remote::openai", entry="lsbuild_plugins.openai.serve:open_embeddings",
        config={"base_url": base, "model": "m"},
    )  # fmt: skip


def test_embeddings_move_on_also_from_vectors_of_another_model(tmp_path: Path) -> None:
    short = status(200, {"data": [{"index": 0, "embedding": [0.6, 0.8]}], "usage": {"prompt_tokens": 1}})
    far = Upstream(short)
    routed = route("far", "letters", api="embeddings")
    routed.metadata["embedding_dimension"] = 26
    app = App(small_manifest([vectors("far", far.base), LETTERS, routed]), tmp_path)
    answer = asked(app, "POST", "/v1/embeddings", {"model": "best", "input": "abc"})
    assert len(answer.json["data"][0]["embedding"]) == 26
    assert answer.json["metadata"] == {"lsbuild_model": "letters", "lsbuild_attempts": "far=error, letters=ok"}
    assert answer.headers["x-lsbuild-model"] == "letters"
    far.close()


def test_models_without_a_route_say_nothing_of_attempts(tmp_path: Path) -> None:
    app = App(small_manifest([PARROT, SLOW]), tmp_path)
    answer = asked(app, "POST", CHAT, {"model": "org/parrot", "messages": [{"role": "user", "content": "x"}]})
    assert "metadata" not in answer.json
    assert not [name for name in answer.headers if name.startswith("x-lsbuild")]
