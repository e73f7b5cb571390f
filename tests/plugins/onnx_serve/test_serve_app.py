"""Both kinds of model behind the application's routes, as a client sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lsbuild_runtime.app import App
from lsbuild_runtime.http import Request
from lsbuild_runtime.manifest import SCHEMA, Manifest, Server, Service
from onnx_serve_models import CONTEXT, write_decoder, write_encoder

SERVE = "lsbuild_plugins.onnx.serve"
ASK = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 0}
UNHELD = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array", "uniqueItems": True}}}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    root = tmp_path_factory.mktemp("bundle")
    write_decoder(root / "chat")
    write_encoder(root / "embed")
    services = (
        Service(
            api="inference", name="chat", provider="inline::onnx", entry=f"{SERVE}.engine:open_engine", path="chat",
            config={"threads": "${env.LSB_TEST_THREADS:=1}"},
        ),
        Service(
            api="embeddings", name="embed", provider="inline::onnx", entry=f"{SERVE}.encoder:open_encoder", path="embed"
        ),
    )  # fmt: skip
    manifest = Manifest(
        schema=SCHEMA, name="t", lsbuild="0", target="host", platform="p", services=services, server=Server(), files=()
    )
    return App(manifest, root)


def post(app: App, path: str, body: Any) -> tuple[int, bytes]:
    response = app.handle(Request("POST", path, body=json.dumps(body).encode()))
    return response.status, response.body if isinstance(response.body, bytes) else b"".join(response.body)


def test_a_chat_is_the_same_streamed_and_whole(app: App) -> None:
    status, body = post(app, "/v1/chat/completions", ASK)
    answer = json.loads(body)
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 4
    status, body = post(app, "/v1/chat/completions", {**ASK, "stream": True})
    events = body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert (status, text) == (200, answer["choices"][0]["message"]["content"])


def test_a_loglikelihood_is_asked_as_evaluation_tools_ask_it(app: App) -> None:
    body = {"model": "chat", "prompt": [5, 6, 7, 8], "max_tokens": 0, "echo": True, "logprobs": 1}
    status, answer = post(app, "/v1/completions", body)
    scores = json.loads(answer)["choices"][0]["logprobs"]
    assert status == 200
    assert scores["token_logprobs"][0] is None and scores["top_logprobs"][0] is None
    assert all(score < 0 for score in scores["token_logprobs"][1:])
    status, answer = post(app, "/v1/completions", {**body, "max_tokens": 1, "temperature": 0})
    assert json.loads(answer)["choices"][0]["logprobs"]["token_logprobs"][:4] == scores["token_logprobs"]


def test_embeddings(app: App) -> None:
    status, body = post(app, "/v1/embeddings", {"model": "embed", "input": ["w1 w2", "w3"], "dimensions": 4})
    assert status == 200
    assert [len(item["embedding"]) for item in json.loads(body)["data"]] == [4, 4]


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/chat/completions", {**ASK, "max_tokens": CONTEXT}, "context_length_exceeded"),
        ("/v1/chat/completions", {**ASK, "response_format": UNHELD}, "unsupported_schema"),
        ("/v1/chat/completions", {**ASK, "stream": True, "max_tokens": CONTEXT}, "context_length_exceeded"),
        ("/v1/embeddings", {"model": "embed", "input": "w1 " * 40}, "context_length_exceeded"),
    ],
)
def test_refusals_are_400_also_when_streaming(app: App, path: str, body: Any, code: str) -> None:
    status, answer = post(app, path, body)
    assert (status, json.loads(answer)["error"]["code"]) == (400, code)
