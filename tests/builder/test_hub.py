"""``hf://`` against a real little server on loopback that speaks the hub's endpoints."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lsbuild import sources
from lsbuild.api import Source
from lsbuild.errors import OfflineError, SourceError
from lsbuild.lock import Lock
from lsbuild.running.monitor import Silent
from lsbuild.sources.hf import select

COMMIT = "a" * 40
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"w" * 1000,
    "onnx/model.onnx": b"graph",
    "original/consolidated.safetensors": b"again",
    "pytorch_model.bin": b"pickle",
    "tokenizer.json": b"{}",
}


class Hub(BaseHTTPRequestHandler):
    """Lists and serves one repository; says 404 or 401 as the hub does."""

    asked: list[str] = []  # noqa: RUF012 - one list for the whole server is meant

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        type(self).asked.append(path)
        if path == f"/api/models/org/name/tree/{COMMIT}":
            listed = [{"type": "file", "path": name, "size": len(data), "oid": "1"} for name, data in FILES.items()]
            self._send(200, json.dumps(listed).encode(), {"content-type": "application/json"})
        elif path == "/api/models/org/name/revision/main":
            self._send(200, json.dumps({"id": "org/name", "sha": COMMIT, "siblings": []}).encode(), {})
        elif path.startswith(f"/org/name/resolve/{COMMIT}/"):
            name = path.partition(f"{COMMIT}/")[2]
            self._send(200, FILES[name], {"etag": f'"{name}"', "x-repo-commit": COMMIT})
        elif path.startswith("/api/models/org/gated"):
            self._send(403, b"", {"x-error-code": "GatedRepo"})
        else:
            self._send(404, b"", {"x-error-code": "RepoNotFound"})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    Hub.asked.clear()
    yield Hub.asked
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(root: Path, uri: str, lock: Lock | None = None, *, offline: bool = False) -> Source:
    found = sources.resolve(
        [uri], root=root, lock=lock or Lock(), cache=root / "cache", offline=offline, locked=False, monitor=Silent()
    )
    return found[uri]


URI = f"hf://org/name@{COMMIT}"


def test_a_model_is_fetched_once_and_then_comes_from_the_cache(tmp_path: Path, hub: list[str]) -> None:
    source = fetch(tmp_path, URI)
    assert [file.path for file in source.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert source.revision == COMMIT
    assert source.files[1].location.read_bytes() == FILES["model.safetensors"]
    assert not any("onnx" in path or "pytorch" in path or "original" in path for path in hub)
    lock = Lock().merged({URI: source})
    hub.clear()
    assert fetch(tmp_path, URI, lock) == source
    assert fetch(tmp_path, URI, lock, offline=True) == source
    assert hub == []


def test_what_differs_from_the_lock_is_damage(tmp_path: Path, hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock().merged({URI: fetch(tmp_path, URI)})
    monkeypatch.setitem(FILES, "config.json", b"{}")
    with pytest.raises(SourceError, match="sha256 is 44136fa355b3678a…, expected"):
        fetch(tmp_path / "another", URI, lock)


@pytest.mark.parametrize("uri", ["hf://org/name@main", "hf://org/name"])
def test_a_moving_revision_is_refused_with_the_commit_it_is_now(tmp_path: Path, hub: list[str], uri: str) -> None:
    if "@" not in uri:
        pytest.importorskip("huggingface_hub")
    with pytest.raises(SourceError, match="does not name a commit") as caught:
        fetch(tmp_path, uri)
    if "@main" in uri:
        assert f"main is {URI} now." in caught.value.hint


def test_models_that_cannot_be_had(tmp_path: Path, hub: list[str]) -> None:
    with pytest.raises(SourceError, match="there is no such model, or it is private"):
        fetch(tmp_path, f"hf://org/none@{COMMIT}")
    with pytest.raises(SourceError, match=r"the model is gated[\s\S]*HF_TOKEN"):
        fetch(tmp_path, f"hf://org/gated@{COMMIT}")
    with pytest.raises(OfflineError):
        fetch(tmp_path, URI, offline=True)


def test_a_hub_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"cannot be fetched: [\s\S]*HF_ENDPOINT"):
        fetch(tmp_path, URI)


def test_one_form_of_the_weights_is_taken() -> None:
    assert select(["onnx/model.onnx", "onnx/model_O4.onnx", "onnx/model.onnx_data", "config.json", "a.bin"]) == [
        "config.json",
        "onnx/model.onnx",
        "onnx/model.onnx_data",
    ]
    assert select(["model-00001-of-00002.safetensors", "model.safetensors.index.json", "1_Pooling/config.json"]) == [
        "1_Pooling/config.json",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
