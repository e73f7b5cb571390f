"""The application around the routes: opening services, secrets, damaged files, failures, request ids, log lines."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Cancelled, Context, Request
from lsbuild_runtime.manifest import FileEntry, Manifest, ManifestError, Service
from lsbuild_runtime.ports import Chat, Completion, Delta, Host
from lsbuild_runtime.services import missing_secrets, resolve
from lsbuild_runtime.watch import JsonWatch
from runtime_asking import asked
from small_services import LETTERS, PARROT, Parrot, small_manifest

CHAT = {"model": "odd", "messages": [{"role": "user", "content": "secret words"}]}


class Odd:
    """A model that fails in the way its config names."""

    def __init__(self, how: str) -> None:
        self.how = how

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:  # noqa: ARG002
        """Fail at once, or after one delta."""
        if "later" in self.how:
            yield Delta(text="one")
        if "cancelled" in self.how:
            raise Cancelled
        if "api" in self.how:
            raise ApiError(429, "full", retry_after=3)
        raise RuntimeError("a secret detail")

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:  # noqa: ARG002
        """The same."""
        yield from self.chat(Chat([]), context)


def open_odd(service: Service, root: Path, host: Host) -> Odd:
    """Entry; fails itself when told so."""
    if service.config["how"] == "open":
        raise RuntimeError("a secret detail")
    return Odd(service.config["how"])


OPENED: list[Service] = []


def open_counted(service: Service, root: Path, host: Host) -> Parrot:
    """Entry that takes a while and counts."""
    time.sleep(0.05)
    OPENED.append(service)
    return Parrot()


def odd(how: Any, **more: Any) -> Service:
    """A service with an entry of this module."""
    values = {"api": "inference", "name": "odd", "provider": "inline::odd", "entry": f"{__name__}:open_odd"}
    return Service(**{**values, "config": {"how": how}, **more})


def with_file(root: Path, path: str, content: bytes, *services: Service, part: str = "app") -> Manifest:
    """A manifest with one file, which is written below ``root``."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)
    entry = FileEntry(path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content), part=part)
    return msgspec.structs.replace(small_manifest(services), files=(entry,))


def test_an_unexpected_error_is_a_500_without_its_details(tmp_path: Path) -> None:
    lines: list[str] = []
    app = App(small_manifest([odd("now")]), tmp_path, lambda name: JsonWatch(name, lines.append))
    answer = asked(app, "POST", "/v1/chat/completions", CHAT)
    assert (answer.status, answer.error["type"]) == (500, "server_error")
    assert b"secret" not in answer.body
    line = msgspec.json.decode(lines[0])
    assert line["level"] == "error"
    assert "RuntimeError: a secret detail" in line["exception.stacktrace"]
    assert line["request_id"] == answer.headers["x-request-id"]


def test_an_unexpected_error_in_a_stream_becomes_an_event(tmp_path: Path) -> None:
    app = App(small_manifest([odd("later")]), tmp_path)
    answer = asked(app, "POST", "/v1/chat/completions", {**CHAT, "stream": True})
    assert answer.status == 200
    first, last = answer.events
    assert first["choices"][0]["delta"]["content"] == "one"
    assert last["error"]["type"] == "server_error"
    assert b"secret" not in answer.body


def test_an_expected_error_keeps_its_status_or_becomes_an_event(tmp_path: Path) -> None:
    answer = asked(
        App(small_manifest([odd("api")]), tmp_path), "POST", "/v1/chat/completions", {**CHAT, "stream": True}
    )
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")
    answer = asked(
        App(small_manifest([odd("api later")]), tmp_path), "POST", "/v1/chat/completions", {**CHAT, "stream": True}
    )
    assert answer.status == 200
    assert answer.events[-1]["error"]["message"] == "full"


def test_a_cancelled_request_is_499(tmp_path: Path) -> None:
    assert asked(App(small_manifest([odd("cancelled")]), tmp_path), "POST", "/v1/chat/completions", CHAT).status == 499


def test_an_entry_that_fails_is_a_500_and_is_tried_again(tmp_path: Path) -> None:
    app = App(small_manifest([odd("open")]), tmp_path)
    assert asked(app, "POST", "/v1/chat/completions", CHAT).status == 500
    assert asked(app, "POST", "/v1/chat/completions", CHAT).status == 500


def test_a_deadline_that_has_passed_is_408(app: App) -> None:
    body = msgspec.json.encode({"model": "org/parrot", "messages": CHAT["messages"]})
    answer = app.handle(Request("POST", "/v1/chat/completions", body=body, context=Context(deadline=0.0)))
    assert answer.status == 408


def test_a_service_is_opened_once_by_many_threads(tmp_path: Path) -> None:
    OPENED.clear()
    app = App(small_manifest([odd("", entry=f"{__name__}:open_counted")]), tmp_path)
    assert OPENED == []
    threads = [threading.Thread(target=asked, args=(app, "POST", "/v1/chat/completions", CHAT)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(OPENED) == 1


def test_a_missing_secret_is_a_503_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ODD_KEY", raising=False)
    service = odd({"secret": "ODD_KEY"})
    app = App(small_manifest([service]), tmp_path)
    answer = asked(app, "POST", "/v1/chat/completions", CHAT)
    assert answer.status == 503
    assert "ODD_KEY" in answer.error["message"]
    assert asked(app, "GET", "/v1/ready").status == 503
    assert asked(app, "GET", "/v1/providers").json["data"][0]["health"]["status"] == "Error"
    monkeypatch.setenv("ODD_KEY", "api")
    assert asked(app, "GET", "/v1/ready").status == 200
    assert asked(app, "POST", "/v1/chat/completions", CHAT).status == 429


def test_secrets_and_variables_are_resolved_deeply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "k")
    monkeypatch.setenv("A_URL", "http://u")
    config = {"key": {"secret": "A_KEY"}, "url": ["${env.A_URL:=x}/v1", "${env.NOBODY:=d}", "${env.NOBODY}"], "n": 1}
    assert resolve(config) == {"key": "k", "url": ["http://u/v1", "d", ""], "n": 1}
    assert missing_secrets({"a": [{"secret": "NOBODY"}], "b": {"secret": "A_KEY"}, "c": {"secret": 1, "x": 2}}) == [
        "set the environment variable NOBODY (a secret of the spec)"
    ]


def test_a_damaged_file_of_the_bundle_stops_the_boot(tmp_path: Path) -> None:
    manifest = with_file(tmp_path, "app/code.py", b"pass\n", PARROT)
    App(manifest, tmp_path)
    (tmp_path / "app/code.py").write_bytes(b"fail\n")
    with pytest.raises(ManifestError, match=r"app/code\.py: sha256 differs"):
        App(manifest, tmp_path)
    (tmp_path / "app/code.py").unlink()
    with pytest.raises(ManifestError, match=r"app/code\.py: No such file"):
        App(manifest, tmp_path)


def test_a_wheels_file_is_not_read_at_boot(tmp_path: Path) -> None:
    manifest = with_file(tmp_path, "site/big.so", b"x" * 10, PARROT, part="wheels")
    (tmp_path / "site/big.so").unlink()
    assert asked(App(manifest, tmp_path), "GET", "/v1/health").status == 200


def test_a_damaged_model_is_found_before_it_is_opened(tmp_path: Path) -> None:
    service = msgspec.structs.replace(PARROT, path="models/odd", name="odd")
    manifest = with_file(tmp_path, "models/odd/weights", b"0123", service, part="model")
    app = App(manifest, tmp_path)
    assert asked(app, "GET", "/v1/ready").status == 200
    (tmp_path / "models/odd/weights").write_bytes(b"9999")
    answer = asked(app, "POST", "/v1/chat/completions", CHAT)
    assert (answer.status, answer.error["code"]) == (503, "service_unavailable")
    assert "models/odd/weights: sha256 differs" in answer.error["message"]
    (tmp_path / "models/odd/weights").write_bytes(b"")
    assert asked(app, "GET", "/v1/ready").status == 503


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1", True), ("", False), ("a\nb", False), ("é", False), ("x" * 129, False)]
)
def test_a_request_id_is_kept_if_it_is_harmless(app: App, given: str, kept: bool) -> None:
    answer = asked(app, "GET", "/v1/health", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) == kept
    assert kept or answer.headers["x-request-id"].startswith("req_")


def test_one_log_line_for_each_request_without_its_words(tmp_path: Path) -> None:
    lines: list[str] = []
    app = App(small_manifest([PARROT, LETTERS]), tmp_path, lambda name: JsonWatch(name, lines.append))
    body = {"model": "org/parrot", "messages": [{"role": "user", "content": "confidential words"}]}
    asked(app, "POST", "/v1/chat/completions", {**body, "stream": True})
    asked(app, "POST", "/v1/embeddings", {"model": "letters", "input": "confidential words"})
    asked(app, "GET", "/nowhere")
    assert len(lines) == 3
    assert "confidential" not in "".join(lines)
    chat, embeddings, nowhere = (msgspec.json.decode(line) for line in lines)
    assert chat["http.route"] == "/v1/chat/completions"
    assert (chat["gen_ai.operation.name"], chat["gen_ai.request.model"]) == ("chat", "org/parrot")
    assert (chat["gen_ai.usage.input_tokens"], chat["gen_ai.usage.output_tokens"]) == (2, 2)
    assert [span["name"] for span in chat["spans"]] == ["chat org/parrot"]
    assert chat["ms"] >= chat["spans"][0]["ms"] >= 0
    assert embeddings["gen_ai.usage.input_tokens"] == 2
    assert nowhere["http.response.status_code"] == 404
    assert "http.route" not in nowhere


def test_the_line_is_about_the_request_and_not_about_what_it_needed() -> None:
    lines: list[str] = []
    watch = JsonWatch("r", lines.append)
    with watch.span("http.server.request", a=1), watch.span("chat", b="chat") as chat:
        with watch.span("search", b="search") as search:
            search.set(tokens=5)
        chat.set(tokens=7)
    line = msgspec.json.decode(lines[0])
    assert (line["a"], line["b"], line["tokens"]) == (1, "chat", 7)
    assert [(span["name"], span.get("tokens")) for span in line["spans"]] == [("chat", None), ("search", 5)]


def test_counters_are_summed_in_the_line() -> None:
    lines: list[str] = []
    watch = JsonWatch("r", lines.append)
    with watch.span("http.server.request"):
        watch.count("tokens", 2, model="a")
        watch.count("tokens", 3)
    assert msgspec.json.decode(lines[0])["counts"] == {"tokens": 5}


def test_a_stream_that_is_closed_early_ends_the_generation_and_is_logged(tmp_path: Path) -> None:
    lines: list[str] = []
    app = App(small_manifest(), tmp_path, lambda name: JsonWatch(name, lines.append))
    body = msgspec.json.encode({"model": "slow", "stream": True, "messages": [{"role": "user", "content": "w " * 50}]})
    response = app.handle(Request("POST", "/v1/chat/completions", body=body))
    assert not isinstance(response.body, bytes)
    chunks = iter(response.body)
    next(chunks)
    assert lines == []
    chunks.close()  # type: ignore[attr-defined]
    parrot: Parrot = app.services.get("inference", "slow")
    assert parrot.ended.is_set()
    assert parrot.produced < 5
    assert len(lines) == 1
