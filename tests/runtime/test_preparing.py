"""Services that are opened when the server starts: progress, refusals, and where models run, in /v1/health."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsbuild_runtime import preparing
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Request
from lsbuild_runtime.manifest import Manifest, Server, Service
from lsbuild_runtime.ports import Placement
from lsbuild_runtime.watch import JsonWatch

SECONDS = 20.0


class Model:
    """A model that was opened, and says where it runs."""

    placement = Placement("cpu", "cuda", {"cpu": 3}, "no CUDA here")


class Gate:
    """What the entry of a service below does: it waits until it may go on, and says so to its host."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.fault = ""

    def open(self, host: Any) -> Model:
        host.tell("building engines for m")
        self.begun.set()
        assert self.go.wait(SECONDS)
        if self.fault:
            raise ApiError(503, self.fault, type="server_error", code="model_unavailable")
        return Model()


GATES: dict[str, Gate] = {}


def open_gated(service: Service, _root: Path, host: Any) -> Model:
    """The entry of the services below."""
    return GATES[service.name].open(host)


def open_at_once(_service: Service, _root: Path, _host: Any) -> Model:
    """The entry of a service that nobody prepares."""
    return Model()


def named(name: str, entry: str = "open_gated") -> Service:
    return Service(api="embeddings", name=name, provider="inline::test", entry=f"{__name__}:{entry}")


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def app(tmp_path: Path, lines: list[dict[str, Any]]) -> Iterator[App]:
    """An application with two services that are opened at its start, ``one`` and ``two``, and one that is not."""
    GATES.update(one=Gate(), two=Gate())
    manifest = Manifest(
        schema=1,
        name="n",
        lsbuild="0",
        target="jetson",
        platform="p",
        services=(named("one"), named("two"), named("other", "open_at_once")),
        server=Server(prepare=("embeddings/one", "embeddings/two")),
        files=(),
    )
    app = App(manifest, tmp_path, lambda request: JsonWatch(request, lambda line: lines.append(json.loads(line))))
    yield app
    for gate in GATES.values():
        gate.go.set()
    if app.preparing is not None:
        app.preparing.wait(SECONDS)
    app.close()


def ask(app: App, path: str) -> tuple[int, Any]:
    response = app.handle(Request("GET", path))
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body)


def finish(app: App) -> None:
    for gate in GATES.values():
        gate.go.set()
    assert app.preparing is not None
    assert app.preparing.wait(SECONDS)


def test_progress_is_told_and_liveness_is_another_thing(app: App) -> None:
    told: list[str] = []
    app.tell = told.append
    app.start()
    assert GATES["one"].begun.wait(SECONDS)
    status, body = ask(app, "/v1/health")
    assert status == 503
    assert body["error"]["code"] == "preparing"
    assert body["error"]["message"].startswith("building engines for m: 0 of 2 models ready, 0 s so far")
    assert ask(app, "/v1/ready")[0] == 503
    assert ask(app, "/v1/live") == (200, {"status": "OK"})
    GATES["one"].go.set()
    assert GATES["two"].begun.wait(SECONDS)
    assert "1 of 2 models ready" in ask(app, "/v1/health")[1]["error"]["message"]
    finish(app)
    assert ask(app, "/v1/ready")[0] == 200
    assert told == [
        "opening embeddings/one (1 of 2)",
        "building engines for m",
        "opening embeddings/two (2 of 2)",
        "building engines for m",
        "serving",
    ]


def test_requests_do_not_wait_for_the_start(app: App) -> None:
    app.start()
    assert GATES["one"].begun.wait(SECONDS)
    with pytest.raises(ApiError, match="not ready yet: building engines for m") as refused:
        app.services.get("embeddings", "other")
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, "preparing", 5)
    finish(app)
    assert app.services.get("embeddings", "other")


def test_where_models_run_is_in_health_and_in_the_log(app: App, lines: list[dict[str, Any]]) -> None:
    app.start()
    finish(app)
    status, body = ask(app, "/v1/health")
    assert status == 200
    found = {"provider": "cpu", "wanted": "cuda", "operators": {"cpu": 3}, "why": "no CUDA here"}
    assert body == {"status": "OK", "models": {"embeddings/one": found, "embeddings/two": found}}
    assert lines[0]["lsbuild.execution.provider"] == "cpu"
    assert lines[0]["lsbuild.execution.fallback"] == "no CUDA here"
    assert lines[0]["counts"] == {"lsbuild.execution.fallbacks": 1}


def test_a_refusal_stays_in_health_until_the_service_can_be_opened(app: App) -> None:
    GATES["two"].fault = "cuda was asked for"
    app.start()
    finish(app)
    status, body = ask(app, "/v1/health")
    assert status == 503
    assert (body["error"]["code"], body["error"]["message"]) == ("not_ready", "cuda was asked for")
    assert ask(app, "/v1/ready")[0] == 503
    assert ask(app, "/v1/live")[0] == 200
    GATES["two"].fault = ""
    app.services.get("embeddings", "two")
    assert ask(app, "/v1/health")[0] == 200


def test_a_service_that_could_not_be_opened_is_tried_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "FIRST_PAUSE", 0.01)
    told: queue.Queue[str] = queue.Queue()
    app.tell = told.put
    GATES["two"].fault = "the driver is not there yet"
    app.start()
    finish(app)
    assert ask(app, "/v1/health")[0] == 503
    GATES["two"].fault = ""
    while told.get(timeout=SECONDS) != "serving":
        pass
    assert ask(app, "/v1/health")[0] == 200


def test_what_nobody_expected_is_a_refusal_as_well(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_host: Any) -> Model:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(GATES["one"], "open", broken)
    app.start()
    finish(app)
    assert ask(app, "/v1/health")[1]["error"]["message"] == "embeddings/one: odd"


def test_seconds_are_counted(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.start()
    assert GATES["one"].begun.wait(SECONDS)
    assert app.preparing is not None
    monkeypatch.setattr(app.preparing, "_clock", lambda: time.monotonic() + 90)
    assert "90 s so far" in ask(app, "/v1/health")[1]["error"]["message"]
