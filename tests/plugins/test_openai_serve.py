"""`remote::openai` at run time: before a second server of our own, and before servers that fail in every known way."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from live_server import eventually, serving
from lsbuild_plugins.openai.serve import open_embeddings, open_inference
from lsbuild_plugins.openai.serve.answers import ANSWER, streamed
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, ToolCall
from runtime_asking import Answer, asked
from small_services import LETTERS, PARROT, SLOW, Parrot, small_manifest

CHAT = "/v1/chat/completions"
ASK = {"model": "cloud", "messages": [{"role": "user", "content": "one two three"}]}


def remote(base: str, model: str = "org/parrot", kind: str = "inference", **config: Any) -> Service:
    """A service that passes on to ``base``."""
    return Service(
        api=kind, name="vectors" if kind == "embeddings" else "cloud", provider="remote::openai",
        entry=f"lsbuild_plugins.openai.serve:open_{kind}", config={"base_url": base, "model": model, **config},
        metadata={"accepts": ["*"], "modalities": ["text", "image"]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, str]]:
    """A second server of our own, and the base URL of its API."""
    app = App(small_manifest([PARROT, SLOW, LETTERS]), tmp_path_factory.mktemp("upstream"))
    with serving(app) as base:
        yield app, f"{base}/v1"


@pytest.fixture(scope="module")
def proxy(upstream: tuple[App, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The application that passes on to it."""
    services = [remote(upstream[1]), remote(upstream[1], "letters", "embeddings")]
    app = App(small_manifest(services), tmp_path_factory.mktemp("proxy"))
    yield app
    for service in services:
        app.services.get(service.api, service.name).upstream.close()


def without_ids(body: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs between two of the same."""
    return {name: value for name, value in body.items() if name not in ("id", "created", "model")}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"n": 2, "max_tokens": 2},
        {"stop": "two"},
        {"logprobs": True, "top_logprobs": 2},
        {"temperature": 0.5, "top_p": 0.5, "seed": 3, "presence_penalty": 1, "frequency_penalty": 1, "top_k": 4},
        {
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
        },
    ],
)
def test_the_proxy_answers_as_its_upstream(upstream: tuple[App, str], proxy: App, more: dict[str, Any]) -> None:
    direct = asked(upstream[0], "POST", CHAT, {**ASK, "model": "org/parrot", **more})
    passed = asked(proxy, "POST", CHAT, {**ASK, **more})
    assert passed.status == 200, passed.body
    assert without_ids(passed.json) == without_ids(direct.json)
    events = asked(
        proxy, "POST", CHAT, {**ASK, **more, "stream": True, "stream_options": {"include_usage": True}}
    ).events
    assert events[-1]["usage"] == direct.json["usage"]
    for choice in direct.json["choices"]:
        mine = [event["choices"][0] for event in events[:-1] if event["choices"][0]["index"] == choice["index"]]
        said = "".join(piece["delta"].get("content", "") for piece in mine)
        assert said == (choice["message"]["content"] or "")
        calls = [call for piece in mine for call in piece["delta"].get("tool_calls", ())]
        assert [{**call, "index": None} for call in calls] == [
            {**call, "index": None} for call in choice["message"].get("tool_calls", ())
        ]
        assert [piece["finish_reason"] for piece in mine if piece["finish_reason"]] == [choice["finish_reason"]]


def test_completions_pass_through(upstream: tuple[App, str], proxy: App) -> None:
    body = {"prompt": ["a b", "c"], "echo": True, "logprobs": 2, "n": 2}
    direct = asked(upstream[0], "POST", "/v1/completions", {**body, "model": "org/parrot"}).json
    passed = asked(proxy, "POST", "/v1/completions", {**body, "model": "cloud"}).json
    assert without_ids(passed) == without_ids(direct)
    events = asked(proxy, "POST", "/v1/completions", {"model": "cloud", "prompt": [1, 2], "stream": True}).events
    assert "".join(event["choices"][0]["text"] for event in events) == "w1 w2"


@pytest.mark.parametrize("given", ["abc", ["abc", "z"], [1, 2], [[1], [2]]])
def test_embeddings_pass_through(upstream: tuple[App, str], proxy: App, given: Any) -> None:
    for more in ({}, {"dimensions": 3}, {"encoding_format": "base64"}):
        direct = asked(upstream[0], "POST", "/v1/embeddings", {"model": "letters", "input": given, **more}).json
        passed = asked(proxy, "POST", "/v1/embeddings", {"model": "vectors", "input": given, **more}).json
        assert without_ids(passed) == without_ids(direct)


def test_faults_of_the_client_stay_the_clients(proxy: App) -> None:
    answer = asked(proxy, "POST", CHAT, {**ASK, "messages": [{"role": "user", "content": "w " * 300}]})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "context_length_exceeded", "messages")
    answer = asked(proxy, "POST", CHAT, {**ASK, "guided_json": {}})
    assert (answer.status, answer.error["param"]) == (400, "guided_json")
    answer = asked(proxy, "POST", "/v1/embeddings", {"model": "vectors", "input": "a", "dimensions": 99})
    assert (answer.status, answer.error["param"]) == (400, "dimensions")


def test_a_client_that_leaves_stops_the_upstream_model(upstream: tuple[App, str], tmp_path: Path) -> None:
    parrot: Parrot = upstream[0].services.get("inference", "slow")
    port = open_inference(remote(upstream[1], "slow"), tmp_path, None)  # type: ignore[arg-type]
    context = Context()
    deltas = port.chat(Chat([{"role": "user", "content": "w " * 200}]), context)
    next(deltas)
    deltas.close()  # type: ignore[attr-defined]
    assert eventually(parrot.ended.is_set)


def test_a_cancelled_request_does_not_wait_for_a_silent_upstream(upstream: tuple[App, str], tmp_path: Path) -> None:
    parrot: Parrot = upstream[0].services.get("inference", "slow")
    port = open_inference(remote(upstream[1], "slow"), tmp_path, None)  # type: ignore[arg-type]
    context = Context()
    threading.Timer(0.1, context.cancel.set).start()
    with pytest.raises(Cancelled):
        list(port.chat(Chat([{"role": "user", "content": "w " * 200}], stream=False), context))
    assert eventually(parrot.ended.is_set)


Script = Callable[[socket.socket, bytes], None]


@contextmanager
def scripted(*scripts: Script, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that follows one script for each request it gets, and what it was sent. A script that closes the
    connection makes it wait for another."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=follow, args=(listener, list(scripts), heard, tls))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", heard
        thread.join(10)
        assert not thread.is_alive()


def follow(listener: socket.socket, scripts: list[Script], heard: list[bytes], tls: ssl.SSLContext | None) -> None:
    """Serve until the scripts are used up."""
    listener.settimeout(5)
    while scripts:
        accepted, _ = listener.accept()
        accepted.settimeout(5)
        with tls.wrap_socket(accepted, server_side=True) if tls else accepted as connection:
            while scripts and (data := one_request(connection)):
                heard.append(data)
                script = scripts.pop(0)
                script(connection, data)
                if connection.fileno() < 0:
                    break


def one_request(connection: socket.socket) -> bytes:
    """The bytes of one request, b"" when the client closed."""
    data = b""
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return data
        received = connection.recv(65536)
        if not received:
            return b""
        data += received


def says(status: int, body: bytes, *headers: bytes) -> Script:
    """Answer with a body of known length."""

    def script(connection: socket.socket, _data: bytes) -> None:
        head = [b"HTTP/1.1 %d X" % status, b"content-length: %d" % len(body), *headers]
        connection.sendall(b"\r\n".join(head) + b"\r\n\r\n" + body)

    return script


def sends(data: bytes, *, then_close: bool = True) -> Script:
    """Send bytes as they are."""

    def script(connection: socket.socket, _data: bytes) -> None:
        connection.sendall(data)
        if then_close:
            connection.close()

    return script


GOOD = json.dumps({
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}).encode()  # fmt: skip
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'


def chunked(data: bytes, size: int = 7) -> bytes:
    """``data`` as chunks of ``size`` bytes."""
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def ask_once(tmp_path: Path, *scripts: Script, stream: bool = False, **config: Any) -> tuple[Answer, list[bytes]]:
    """One chat before a scripted server."""
    with scripted(*scripts) as (base, heard):
        app = App(small_manifest([remote(base, "m", **config)]), tmp_path)
        answer = asked(app, "POST", CHAT, {**ASK, "stream": stream})
        app.services.get("inference", "cloud").upstream.close()
    return answer, heard


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        (says(401, b'{"error":{"message":"no"}}'), 502, "refused this server's credentials with status 401"),
        (says(403, b"go away"), 502, "status 403; check api_key"),
        (says(404, b'{"error":{"message":"no such model"}}'), 502, "status 404: no such model"),
        (says(307, b"", b"location: http://elsewhere/"), 502, "status 307"),
        (says(500, b"<html>"), 502, "status 500"),
        (says(503, b'{"error":"starting"}'), 502, "status 503: starting"),
        (says(400, b'{"error":{"message":"bad seed","param":"seed","code":7}}'), 400, "bad seed"),
        (says(422, b'{"detail":[]}'), 400, "status 422"),
        (says(429, b'{"error":{"message":"slow down"}}', b"retry-after: 17"), 429, "is busy: slow down"),
        (says(200, b"{"), 502, "is not what OpenAI's API says"),
        (says(200, b'{"choices":[{"index":"a"}]}'), 502, "is not what OpenAI's API says"),
        (says(200, b'{"error":{"message":"out of memory"}}'), 502, "it reports: out of memory"),
        (sends(b"SSH-2.0-OpenSSH\r\n"), 502, "is not HTTP"),
        (sends(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"), 502, "closed the connection"),
        (sends(CHUNKED + b"5\r\nabc"), 502, "closed the connection"),
    ],
)
def test_what_an_upstream_failure_means(tmp_path: Path, script: Script, status: int, words: str) -> None:
    answer, _ = ask_once(tmp_path, script)
    assert (answer.status, words in answer.error["message"]) == (status, True), answer.error
    assert "'cloud'" in answer.error["message"]
    assert answer.headers.get("retry-after") == ("17" if status == 429 else None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PIECE, "ended before [DONE]"),
        (b'data: {"error":{"message":"out of memory"}}\n\n', "it reports: out of memory"),
        (b"data: nonsense\n\n", "is not what OpenAI's API says"),
    ],
)
def test_a_stream_that_fails_ends_with_an_error(tmp_path: Path, data: bytes, words: str) -> None:
    answer, _ = ask_once(tmp_path, sends(CHUNKED + chunked(PIECE + data)), stream=True)
    assert answer.status == 200
    assert answer.events[0]["choices"][0]["delta"]["content"] == "a"
    assert words in answer.events[-1]["error"]["message"]


def test_nobody_there_is_502(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    app = App(small_manifest([remote(f"http://127.0.0.1:{port}/v1", "m")]), tmp_path)
    answer = asked(app, "POST", CHAT, ASK)
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    assert "Connection refused" in answer.error["message"]


def test_silence_is_502_after_the_timeout(tmp_path: Path) -> None:
    def nothing(connection: socket.socket, _data: bytes) -> None:
        connection.recv(1)

    answer, _ = ask_once(tmp_path, nothing, timeout=0.3)
    assert (answer.status, "silent for 0.3 s" in answer.error["message"]) == (502, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(GOOD), GOOD),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + GOOD,
        b"HTTP/1.0 200 OK\r\n\r\n" + GOOD,
        CHUNKED + chunked(GOOD),
    ],
)
def test_every_way_to_end_a_body(tmp_path: Path, answer: bytes) -> None:
    found, _ = ask_once(tmp_path, sends(answer))
    assert found.json["choices"][0]["message"]["content"] == "fine"


def test_a_connection_is_used_again_and_replaced_when_it_was_closed(tmp_path: Path) -> None:
    closing = sends(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(GOOD), GOOD))
    with scripted(says(200, GOOD), closing, says(200, GOOD)) as (base, heard):
        app = App(small_manifest([remote(base, "m")]), tmp_path)
        answers = [asked(app, "POST", CHAT, ASK) for _ in range(3)]
        app.services.get("inference", "cloud").upstream.close()
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len(heard) == 3


def test_what_is_sent(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "api_key": "k-1",
        "headers": {"x-team": "pumps"},
        "tokens_parameter": "max_completion_tokens",
    }
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {
        **ASK, "messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}, image]}], "max_tokens": 5,
        "logit_bias": {"7": -1}, "response_format": {"type": "json_object"}, "reasoning_effort": "low", "seed": 0,
    }  # fmt: skip
    with scripted(says(200, GOOD, b"connection: close")) as (base, heard):
        asked(App(small_manifest([remote(base, "big", **config)]), tmp_path), "POST", CHAT, body)
    head, _, sent = heard[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert {"authorization: Bearer k-1", "x-team: pumps", "content-type: application/json"} <= set(lines)
    assert msgspec.json.decode(sent) == {
        "model": "big", "messages": body["messages"], "temperature": 1.0, "top_p": 1.0, "max_completion_tokens": 5,
        "logit_bias": {"7": -1.0}, "response_format": {"type": "json_object"}, "reasoning_effort": "low", "seed": 0,
    }  # fmt: skip


def test_pieces_of_tool_calls_are_put_together() -> None:
    def event(*calls: dict[str, Any], finish: str | None = None) -> Any:
        choice = {"index": 0, "delta": {"tool_calls": list(calls)}, "finish_reason": finish}
        return ANSWER.decode(msgspec.json.encode({"choices": [choice]}))

    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
    second = {"index": 1, "id": "c2", "type": "function", "function": {"name": "go", "arguments": '{"a"'}}
    events = [
        event(first), event({"index": 0, "function": {"arguments": '{"b":'}}, second),
        event({"index": 1, "function": {"arguments": ":1}"}}), event({"index": 0, "function": {"arguments": "2}"}}),
        event(finish="tool_calls"),
    ]  # fmt: skip
    (delta,) = streamed(iter(events))
    assert delta.finish == "tool_calls"
    assert delta.tool_calls == (ToolCall("c1", "look", '{"b":2}'), ToolCall("c2", "go", '{"a":1}'))


@pytest.mark.parametrize(
    "data", [b'{"data":[]}', b'{"data":[{"embedding":"%%%"}]}', b'{"data":[{"embedding":"AA=="}]}']
)
def test_vectors_that_are_none_are_502(tmp_path: Path, data: bytes) -> None:
    with scripted(says(200, data, b"connection: close")) as (base, _):
        app = App(small_manifest([remote(base, "m", "embeddings")]), tmp_path)
        assert asked(app, "POST", "/v1/embeddings", {"model": "vectors", "input": "a"}).status == 502


def test_vectors_may_come_as_numbers_and_in_any_order(tmp_path: Path) -> None:
    data = b'{"data":[{"index":1,"embedding":[0,1]},{"index":0,"embedding":[1.5,0]}],"usage":{"prompt_tokens":2}}'
    with scripted(says(200, data, b"connection: close")) as (base, _):
        port = open_embeddings(remote(base, "m", "embeddings"), tmp_path, None)  # type: ignore[arg-type]
        found = port.embed(["a", "b"], Context())
    assert [list(memoryview(vector).cast("f")) for vector in found.vectors] == [[1.5, 0.0], [0.0, 1.0]]
    assert found.tokens == 2


@pytest.mark.parametrize("url", ["", "x", "ftp://x", "http://", "http://x:99999"])
def test_a_base_url_that_the_environment_spoiled_is_503(tmp_path: Path, url: str) -> None:
    with pytest.raises(ApiError) as caught:
        open_inference(remote(url), tmp_path, None)  # type: ignore[arg-type]
    assert caught.value.status == 503


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 and its key in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    path = tmp_path / "server.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path), "-out", str(tmp_path / "cert.pem")]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *subject]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return path


def test_an_upstream_behind_tls(tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def late(connection: socket.socket, _data: bytes) -> None:
        time.sleep(0.4)  # longer than one wait of the client
        connection.sendall(CHUNKED + chunked(PIECE + b"data: [DONE]\n\n"))

    with scripted(late, says(200, GOOD, b"connection: close"), tls=context) as (base, heard):
        url = base.replace("http://", "https://")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        app = App(small_manifest([remote(url, "m")]), tmp_path)
        streamed_answer = asked(app, "POST", CHAT, {**ASK, "stream": True})
        whole_answer = asked(app, "POST", CHAT, ASK)
    assert streamed_answer.events[0]["choices"][0]["delta"]["content"] == "a"
    assert whole_answer.json["choices"][0]["message"]["content"] == "fine"
    assert len(heard) == 2


def test_an_upstream_with_a_certificate_nobody_knows_is_502(tmp_path: Path, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass

        thread = threading.Thread(target=greet)
        thread.start()
        base = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        answer = asked(App(small_manifest([remote(base, "m")]), tmp_path), "POST", CHAT, ASK)
        thread.join(10)
    assert (answer.status, "certificate" in answer.error["message"].lower()) == (502, True), answer.error
