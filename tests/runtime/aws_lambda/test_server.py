"""The function against a Runtime API on loopback: answers, streams as they come, deadlines, failures, snapshots, logs."""

from __future__ import annotations

import io
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from lambda_events import DOORS, encoded, function_url
from lsbuild_runtime.app import App
from lsbuild_runtime.http import Request, Response
from lsbuild_runtime.serve.aws_lambda import events, snapshot
from lsbuild_runtime.serve.aws_lambda.main import Server, Settings, joined, main
from lsbuild_runtime.serve.aws_lambda.powertools import Function, Telemetry
from lsbuild_runtime.serve.aws_lambda.runtime_api import RuntimeApi, RuntimeApiError
from lsbuild_targets.aws_lambda import doors
from lsbuild_targets.aws_lambda.mock import Mock
from small_services import small_manifest

CHAT = {"model": "org/parrot", "messages": [{"role": "user", "content": "one two three"}], "stream": True}


def function(name: str = "small") -> Function:
    return Function(name, "3", "512", service="small", namespace="tests")


@contextmanager
def served(
    app: App, settings: Settings | None = None, seconds: float = 30.0, made: Mock | None = None
) -> Iterator[Mock]:
    """``app`` as a function behind a mock; it has stopped when the block ends."""
    with (made or Mock(seconds)).serve() as mock:
        api = RuntimeApi(mock.address)
        server = Server(app, api, settings or Settings(), Telemetry(function()))

        def run() -> None:
            try:
                while True:
                    server.serve_one()
            except RuntimeApiError:
                api.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield mock
        finally:
            mock.end()
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def mock(app: App) -> Iterator[Mock]:
    with served(app) as found:
        yield found


def ask(mock: Mock, event: dict[str, Any]) -> doors.Answer:
    return doors.answer(b"".join(mock.invoke(encoded(event))))


def test_every_door_is_answered(mock: Mock) -> None:
    for make in DOORS.values():
        answer = ask(mock, make())
        assert (answer.status, answer.body) == (200, b'{"status":"OK"}')
    assert mock.modes == ["streaming", "", "", "", ""]


def test_the_request_id_is_the_caller_s_or_the_invocation_s(mock: Mock) -> None:
    assert dict(ask(mock, function_url(X_Request_Id="mine")).headers)["x-request-id"] == "mine"
    given = dict(ask(mock, function_url()).headers)["x-request-id"]
    assert len(given.split("-")) == 5  # the invocation's UUID


def test_tokens_leave_one_by_one(mock: Mock) -> None:
    pieces = list(mock.invoke(encoded(function_url("POST", "/v1/chat/completions", body=json.dumps(CHAT).encode()))))
    head = json.loads(pieces[0].partition(b"\0" * 8)[0])
    assert head["statusCode"] == 200
    assert head["headers"]["content-type"] == "text/event-stream"
    data = [piece for piece in pieces[1:] if b"content" in piece]
    assert len(data) >= 3
    assert pieces[-1].endswith(b"data: [DONE]\n\n")


def test_a_client_over_http_sees_the_first_token_before_the_last_is_made(app: App) -> None:
    with served(app) as mock, mock.url() as url:
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(CHAT).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.headers["content-type"] == "text/event-stream"
            lines = [line for line in response if line.strip()]
    assert lines[-1] == b"data: [DONE]\n"
    assert mock.failures == []


def test_a_stream_is_joined_for_a_door_that_cannot_stream(mock: Mock) -> None:
    answer = ask(mock, DOORS["rest-api"]("POST", "/v1/chat/completions", body=json.dumps(CHAT).encode()))
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_a_rest_api_streams_where_the_settings_say_so(app: App) -> None:
    with served(app, Settings(stream=("rest-api",))) as mock:
        assert ask(mock, DOORS["rest-api"]()).status == 200
        assert ask(mock, function_url()).status == 200
        assert mock.modes == ["streaming", ""]


def test_what_is_no_request_is_an_error_of_the_function_and_the_next_is_answered(mock: Mock) -> None:
    with pytest.raises(doors.FunctionFailed, match="UnknownEvent: the event is no HTTP request"):
        list(mock.invoke(b'{"Records": []}'))
    assert ask(mock, function_url()).status == 200


def test_the_function_s_time_is_the_request_s_deadline(app: App) -> None:
    with served(app, seconds=0.4) as mock:  # less than what is kept for saying so
        answer = ask(
            mock, DOORS["http-api"]("POST", "/v1/chat/completions", body=json.dumps({**CHAT, "stream": False}).encode())
        )
    assert answer.status == 408
    assert json.loads(answer.body)["error"]["code"] == "deadline_exceeded"


def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    app = App(small_manifest(), tmp_path)
    answer_limit = app.manifest.server.body
    with served(app) as mock:
        answer = ask(mock, function_url("POST", "/v1/embeddings", body=b"x" * (answer_limit + 1)))
    assert answer.status == 413


def test_a_broken_base64_body_is_the_client_s_fault(mock: Mock) -> None:
    event = {**function_url("POST", "/v1/embeddings"), "body": "***", "isBase64Encoded": True}
    answer = ask(mock, event)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["code"] == "invalid_body"


def test_an_answer_larger_than_lambda_takes_says_so(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "limit", lambda _door: 100)
    with served(app) as mock:
        answer = ask(mock, DOORS["http-api"]("GET", "/v1/models"))
    assert answer.status == 413
    assert json.loads(answer.body)["error"]["code"] == "response_too_large"


def test_a_failure_in_mid_stream_is_told_in_trailers(mock_address: tuple[Mock, RuntimeApi]) -> None:
    mock, api = mock_address
    pieces: list[bytes] = []
    failed: list[Exception] = []

    def client() -> None:
        try:
            pieces.extend(mock.invoke(b"{}"))
        except doors.FunctionFailed as error:
            failed.append(error)

    thread = threading.Thread(target=client)
    thread.start()
    invocation = api.next()

    def chunks() -> Iterator[bytes]:
        yield b"first"
        raise ValueError("the engine broke")

    api.stream(invocation.id, b"{}", chunks())
    thread.join(20)
    assert "the engine broke" in str(failed[0])
    assert any(failure.startswith("trailer ValueError") for failure in mock.failures)


@pytest.fixture
def mock_address() -> Iterator[tuple[Mock, RuntimeApi]]:
    with Mock(30).serve() as mock:
        api = RuntimeApi(mock.address)
        yield mock, api
        api.close()


def test_the_deadline_is_on_the_monotonic_clock(mock_address: tuple[Mock, RuntimeApi]) -> None:
    mock, api = mock_address
    thread = threading.Thread(target=lambda: list(mock.invoke(b"{}")))
    thread.start()
    invocation = api.next()
    assert 25 < invocation.deadline - time.monotonic() <= 30
    assert invocation.trace.startswith("Root=")
    api.respond(invocation.id, b"{}")
    thread.join(20)


def test_an_address_where_nobody_listens_is_one_sentence() -> None:
    with pytest.raises(RuntimeApiError, match="cannot be reached"):
        RuntimeApi("127.0.0.1:1").next()


def bundle(folder: Path) -> Path:
    """A bundle without services as a function's folder."""
    from lsbuild_runtime.manifest import FILE_NAME, to_json

    folder.mkdir()
    (folder / FILE_NAME).write_bytes(to_json(small_manifest([])))
    (folder / "lambda.json").write_bytes(b'{"namespace": "tests"}')
    return folder


def test_a_function_that_cannot_start_tells_lambda_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Mock().serve() as mock:
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", mock.address)
        assert main(str(tmp_path / "nowhere"), str(tmp_path / "none")) == 10
        assert mock.failures[0].startswith("init/error")
        assert "is this the folder of an artifact?" in mock.failures[0]
    assert "is this the folder of an artifact?" in capsys.readouterr().err


def test_a_snapshot_is_taken_before_the_first_event_and_the_copy_draws_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import random

    seeds: list[float] = []
    monkeypatch.setattr(random, "seed", lambda: seeds.append(time.monotonic()))
    with Mock().serve() as mock:
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", mock.address)
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        task = bundle(tmp_path / "task")
        thread = threading.Thread(target=lambda: main(str(task), str(tmp_path / "none")))
        thread.start()
        assert mock.held.wait(20)
        assert not mock.ready.is_set()
        assert seeds == []
        mock.restored.set()
        assert mock.ready.wait(20)
        assert len(seeds) == 1
    thread.join(20)


def test_generators_that_are_loaded_are_seeded_anew() -> None:
    import random

    random.seed(7)
    first = random.random()
    random.seed(7)
    snapshot.reseed()
    assert random.random() != first


def test_layers_and_task_become_one_folder_again_and_again(tmp_path: Path) -> None:
    task, layers = tmp_path / "task", tmp_path / "opt"
    (task / "app").mkdir(parents=True)
    (layers / "models" / "m").mkdir(parents=True)
    for _ in range(2):
        root = joined(task, layers, tmp_path / "tmp" / "joined")
        assert sorted(path.name for path in root.iterdir()) == ["app", "models"]
        assert (root / "models" / "m").is_dir()
    assert joined(task, tmp_path / "none", tmp_path / "unused") == task


def test_requests_are_logged_and_measured_after_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aws_lambda_powertools")
    for name in ("POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    telemetry = Telemetry(function("fn"))
    watch = telemetry.observe("r1")
    with watch.span("http.server.request", **{"http.request.method": "POST"}) as span:
        span.set(**{"http.response.status_code": 200, "gen_ai.usage.output_tokens": 7})
    out = io.StringIO()
    with redirect_stdout(out):
        telemetry.flush("invocation-1", "arn:x")
        telemetry.flush("invocation-2", "arn:x")  # nothing happened since
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    log, emf = lines
    assert log["request_id"] == "r1"
    assert log["function_request_id"] == "invocation-1"
    assert log["http.response.status_code"] == 200
    assert log["cold_start"] is True
    assert log["service"] == "small"
    assert emf["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "tests"
    assert (emf["Requests"], emf["Errors"], emf["OutputTokens"], emf["ColdStart"]) == ([1.0], [0.0], [7.0], [1.0])
    assert emf["service"] == "small"


def test_a_file_of_another_size_is_found_without_reading_it(tmp_path: Path) -> None:
    from lsbuild_runtime.manifest import FileEntry, ManifestError, check_sizes

    (tmp_path / "model.bin").write_bytes(b"12345")
    entry = FileEntry(path="model.bin", sha256="of another file", size=5, part="model")
    check_sizes(tmp_path, (entry,))
    (tmp_path / "model.bin").write_bytes(b"1234")
    with pytest.raises(ManifestError, match="4 bytes, the manifest says 5"):
        check_sizes(tmp_path, (entry,))
    with pytest.raises(ManifestError, match="No such file"):
        check_sizes(tmp_path, (FileEntry(path="gone", sha256="", size=1, part="model"),))


class Hurried(Mock):
    """A service whose events are nearly over when they are given; it waits for their answers all the same."""

    def deadline_ms(self) -> int:
        return int((time.time() + 0.3) * 1000)


@pytest.mark.parametrize("door", ["function-url", "http-api"])
def test_work_that_does_not_look_at_the_clock_is_answered_for_before_lambda_ends_it(
    app: App, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, cancelled = threading.Event(), []

    def handle(request: Request) -> Response:
        if request.path == "/v1/health":
            return Response(200, b"{}")
        assert blocked.wait(60)
        cancelled.append(request.context.cancel.is_set())
        return Response(200, b"late")

    monkeypatch.setattr(app, "handle", handle)
    with served(app, made=Hurried(60.0)) as mock:
        answer = ask(mock, DOORS[door]("POST", "/v1/embeddings", body=b"{}", X_Request_Id="mine"))
        blocked.set()
        assert ask(mock, DOORS[door]()).status == 200  # the late answer went nowhere, and the next event is answered
        assert mock.failures == []
    assert answer.status == 408
    assert json.loads(answer.body)["error"]["code"] == "deadline_exceeded"
    assert dict(answer.headers)["x-request-id"] == "mine"
    assert cancelled == [True]


def test_a_client_that_goes_away_in_mid_stream_stops_the_work_and_the_next_event_is_answered(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service closes the connection; the function notices when it sends, stops, and asks again."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(app, RuntimeApi(f"127.0.0.1:{listener.getsockname()[1]}"), Settings(), Telemetry(function()))
    closed = threading.Event()

    def chunks() -> Iterator[bytes]:
        try:
            while True:
                yield b"data: x\n\n" * 1000
        finally:
            closed.set()

    endless = Response(200, chunks(), {"content-type": "text/event-stream"})
    monkeypatch.setattr(app, "handle", lambda _request: endless)
    thread = threading.Thread(target=server.serve_one)
    thread.start()
    with listener:
        connection, _ = listener.accept()
        connection.recv(1 << 16)
        event = encoded(function_url("POST", "/v1/chat/completions", body=b"{}"))
        deadline = int((time.time() + 60) * 1000)
        head = f"Lambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: {deadline}"
        connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {len(event)}\r\n\r\n".encode() + event)
        sent = b""
        while b"data: x" not in sent:
            sent += connection.recv(1 << 12)
        assert sent.startswith(b"POST /2018-06-01/runtime/invocation/1/response")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        thread.join(30)
        assert not thread.is_alive() and closed.is_set()
        again = threading.Thread(target=server._api.next)
        again.start()
        connection, _ = listener.accept()
        assert connection.recv(1 << 16).startswith(b"GET /2018-06-01/runtime/invocation/next")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        again.join(30)
        connection.close()
    server._api.close()
    assert not again.is_alive()


def test_six_megabytes_are_refused_whatever_door_they_come_through(app: App) -> None:
    body = b'{"model": "letters", "input": "' + b"x" * 6_000_000 + b'"}'
    with served(app) as mock:
        answers = [ask(mock, make("POST", "/v1/embeddings", body=body)) for make in DOORS.values()]
        assert {answer.status for answer in answers} == {413}
        assert all(json.loads(answer.body)["error"]["code"] == "request_too_large" for answer in answers)
        assert ask(mock, function_url()).status == 200


def test_a_binary_answer_arrives_as_it_was_made(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 40
    monkeypatch.setattr(
        app, "handle", lambda _request: Response(200, data, {"content-type": "application/octet-stream"})
    )
    with served(app) as mock:
        assert all(ask(mock, make()).body == data for make in DOORS.values())
