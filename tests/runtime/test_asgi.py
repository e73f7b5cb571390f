"""The ASGI adapter under the real server on loopback: limits, queue, streams, clients that leave, signals."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from live_server import eventually, serving
from lsbuild_runtime.app import App
from lsbuild_runtime.manifest import FILE_NAME, to_json
from lsbuild_runtime.serve.main import state_folder
from small_services import PARROT, SLOW, Parrot, small_manifest

ROOM = 3
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, str]]:
    """An application with two workers, one waiting place and bodies up to 4 kB, and its address."""
    manifest = small_manifest([PARROT, SLOW], concurrency=2, queue=ROOM - 2, body=4096)
    app = App(manifest, tmp_path_factory.mktemp("live"))
    with serving(app) as base:
        yield app, base


def connect(base: str) -> http.client.HTTPConnection:
    """A connection to ``base``."""
    return http.client.HTTPConnection(urlsplit(base).netloc, timeout=20)


def post(
    connection: http.client.HTTPConnection, body: Any, path: str = "/v1/chat/completions"
) -> http.client.HTTPResponse:
    """POST JSON and return the response with its body unread."""
    connection.request("POST", path, msgspec.json.encode(body), {"content-type": "application/json"})
    return connection.getresponse()


def slow(words: int, **more: Any) -> dict[str, Any]:
    """A request that takes ``words`` times 20 ms."""
    return {"model": "slow", "messages": [{"role": "user", "content": "w " * words}], **more}


def error_of(response: http.client.HTTPResponse) -> Any:
    """The error object of an answer."""
    return json.loads(response.read())["error"]


def test_many_requests_over_one_connection(live: tuple[App, str]) -> None:
    connection = connect(live[1])
    for word in ("a", "b", "c"):
        body = {"model": "org/parrot", "messages": [{"role": "user", "content": word}]}
        response = post(connection, body)
        assert json.loads(response.read())["choices"][0]["message"]["content"] == word
    connection.close()


def test_events_come_while_the_model_still_works(live: tuple[App, str]) -> None:
    app, base = live
    parrot: Parrot = app.services.get("inference", "slow")
    connection = connect(base)
    response = post(connection, slow(30, stream=True))
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.readline().startswith(b"data: {")
    assert not parrot.ended.is_set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_model(live: tuple[App, str], stream: bool) -> None:
    app, base = live
    parrot: Parrot = app.services.get("inference", "slow")
    before = parrot.produced
    connection = connect(base)
    body = msgspec.json.encode(slow(200, stream=stream))
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    assert eventually(lambda: parrot.produced > before + 1)
    connection.close()
    assert eventually(parrot.ended.is_set)
    assert parrot.produced - before < 150


def test_a_full_queue_is_429_and_health_still_answers(live: tuple[App, str]) -> None:
    app, base = live
    parrot: Parrot = app.services.get("inference", "slow")
    before = parrot.produced
    busy = [connect(base) for _ in range(ROOM)]
    for connection in busy:
        body = msgspec.json.encode(slow(100, stream=True))
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    assert eventually(lambda: parrot.produced > before + 2)
    other = connect(base)
    assert eventually(lambda: refused(other))
    other.request("GET", "/v1/health")
    assert other.getresponse().read() == b'{"status":"OK"}'
    for connection in (*busy, other):
        connection.close()
    again = connect(base)
    quick = {"model": "org/parrot", "messages": [{"role": "user", "content": "x"}]}
    assert eventually(lambda: status_of(post(again, quick)) == 200)
    again.close()


def refused(connection: http.client.HTTPConnection) -> bool:
    """Whether a further request is refused as one too many."""
    response = post(connection, slow(1))
    found = json.loads(response.read())
    if response.status != 429:
        return False
    assert response.headers["retry-after"] == "1"
    assert found["error"]["code"] == "queue_full"
    return True


def status_of(response: http.client.HTTPResponse) -> int:
    """The status, with the body read."""
    response.read()
    return response.status


def test_a_body_that_is_declared_too_large_is_413(live: tuple[App, str]) -> None:
    connection = connect(live[1])
    response = post(connection, {"model": "x" * 5000})
    assert (response.status, error_of(response)["code"]) == (413, "request_too_large")
    assert response.headers["connection"] == "close"
    connection.close()


def test_a_chunked_body_is_cut_off_at_the_limit(live: tuple[App, str]) -> None:
    connection = connect(live[1])
    chunks = iter([b"x" * 1000] * 5)
    connection.request("POST", "/v1/embeddings", chunks, {"content-type": "application/json"}, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    connection.close()


def test_a_client_that_leaves_before_its_body_is_complete_harms_nobody(live: tuple[App, str]) -> None:
    address = urlsplit(live[1])
    with socket.create_connection((address.hostname or "", address.port or 0)) as raw:
        raw.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
    connection = connect(live[1])
    connection.request("GET", "/v1/health")
    assert status_of(connection.getresponse()) == 200
    connection.close()


def test_queries_paths_and_head_arrive(live: tuple[App, str]) -> None:
    connection = connect(live[1])
    for method, path, status in [
        ("GET", "/v1/models/org%2Fparrot", 200),
        ("GET", "/v1/models/org/parrot", 200),
        ("GET", "/v1/models?page=2", 400),
        ("GET", "/v1/models?x", 400),
        ("HEAD", "/v1/models", 200),
        ("GET", "/%ff", 404),
    ]:
        connection.request(method, path)
        assert status_of(connection.getresponse()) == status, path
    connection.close()


def test_a_client_that_reads_slowly_holds_the_model_back(live: tuple[App, str]) -> None:
    """The whole answer has some 50 MB, more than the kernel's buffers take."""
    app, base = live
    parrot: Parrot = app.services.get("inference", "org/parrot")
    before = parrot.produced
    address = urlsplit(base)
    words = " ".join(f"{number:x>150}" for number in range(24))
    body = {"model": "org/parrot", "stream": True, "n": 128, "messages": [{"role": "user", "content": words}]}
    data = msgspec.json.encode({**body, "logprobs": True, "top_logprobs": 20})
    with socket.create_connection((address.hostname or "", address.port or 0)) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        assert raw.recv(1024)
        assert not parrot.ended.wait(1.0)
        assert parrot.produced - before < 128 * 24
    assert eventually(parrot.ended.is_set)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server as a process of its own, and its address."""
    (tmp_path / FILE_NAME).write_bytes(to_json(small_manifest([PARROT, SLOW], port=0)))
    started = start(tmp_path)
    assert started.stdout is not None
    line = started.stdout.readline()
    try:
        assert line.startswith("small serves on http://127.0.0.1:")
        yield started, line.split()[-1]
    finally:
        started.kill()
        started.communicate()


def start(root: Path, *more: str) -> subprocess.Popen[str]:
    """``python -m lsbuild_runtime.serve --root ROOT``."""
    return subprocess.Popen(
        [sys.executable, "-m", "lsbuild_runtime.serve", "--root", str(root), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )


def test_sigterm_lets_a_stream_end_and_exits_with_zero(process: tuple[subprocess.Popen[str], str]) -> None:
    started, base = process
    connection = connect(base)
    response = post(connection, slow(40, stream=True))
    response.readline()
    started.send_signal(signal.SIGTERM)
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()
    assert started.wait(20) == 0
    assert started.stderr is not None
    lines = started.stderr.read().splitlines()
    assert len(lines) == 1, lines
    assert json.loads(lines[0])["http.response.status_code"] == 200


def test_draining_says_not_ready_before_the_port_is_closed(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(to_json(small_manifest([PARROT], port=0)))
    started = start(tmp_path, "--drain", "3")
    assert started.stdout is not None
    base = started.stdout.readline().split()[-1]
    connection = connect(base)
    connection.request("GET", "/v1/ready")
    assert status_of(connection.getresponse()) == 200
    started.send_signal(signal.SIGTERM)

    def says_503() -> bool:
        connection.request("GET", "/v1/ready")
        return status_of(connection.getresponse()) == 503

    assert eventually(says_503, 2.5)
    connection.close()
    started.communicate(timeout=20)
    assert started.returncode == 0


def test_a_port_in_use_is_one_line_and_code_ten(process: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    port = str(urlsplit(process[1]).port)
    second = start(tmp_path, "--port", port)
    _, said = second.communicate(timeout=20)
    assert second.returncode == 10
    assert said == f"lsbuild: cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --port\n"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (None, "is this the folder of an artifact"),
        (b"{", "is not readable"),
        (b'{"schema":99}', "this runtime reads 1"),
    ],
)
def test_a_bundle_that_cannot_be_read_is_one_line_and_code_ten(
    tmp_path: Path, manifest: bytes | None, said: str
) -> None:
    if manifest is not None:
        (tmp_path / FILE_NAME).write_bytes(manifest)
    started = start(tmp_path)
    _, errors = started.communicate(timeout=20)
    assert started.returncode == 10
    assert said in errors
    assert len(errors.splitlines()) == 1


def test_parallel_requests_do_not_mix(live: tuple[App, str]) -> None:
    wrong: list[str] = []

    def ask(word: str) -> None:
        connection = connect(live[1])
        for _ in range(10):
            while (
                response := post(connection, {"model": "org/parrot", "messages": [{"role": "user", "content": word}]})
            ).status == 429:
                response.read()
            said = json.loads(response.read())["choices"][0]["message"]["content"]
            if said != word:
                wrong.append(said)
        connection.close()

    threads = [threading.Thread(target=ask, args=(f"word{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_home_that_cannot_be_written_keeps_no_state(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert state_folder(None, "demo", {"HOME": str(home)}) == home / ".local/state/lsbuild/demo"
    home.write_text("a file")
    assert state_folder(None, "demo", {"HOME": str(home)}) is None
    assert state_folder(None, "demo", {}) is None
    assert state_folder(f"{home}/asked", "demo", {}) == home / "asked"  # who asks for it is told when it cannot be had
