"""URLs as sources: pinned by hash or by the lock, from a real server on loopback; other bytes are refused."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lsbuild import sources
from lsbuild.api import Source
from lsbuild.errors import LockError, OfflineError, SourceError
from lsbuild.lock import Lock
from lsbuild.running.monitor import Silent
from lsbuild.sources import http

PAGE = b"# Pump\n\nHold the button.\n"
PIN = hashlib.sha256(PAGE).hexdigest()


class Web(BaseHTTPRequestHandler):
    """Pages by path; ``pages`` may be changed by a test."""

    pages: dict[str, tuple[int, dict[str, str], bytes]] = {}  # noqa: RUF012 - one table for the whole server is meant
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        status, headers, body = self.pages.get(self.path, (404, {}, b"nothing here"))
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Web.pages = {"/docs/pump.md": (200, {"content-type": "text/plain"}, PAGE)}
    Web.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def resolve(root: Path, uri: str, **rest: Any) -> Source:
    given: dict[str, Any] = {"lock": Lock(), "cache": root / ".cache", "offline": False, "locked": False, **rest}
    return sources.resolve([uri], root=root, monitor=Silent(), **given)[uri]


def locked(source: Source) -> Lock:
    return Lock().merged({source.uri: source})


def test_a_page_is_named_by_host_and_path_and_fetched_once(web: str, tmp_path: Path) -> None:
    uri = f"{web}/docs/pump.md"
    source = resolve(tmp_path, uri)
    (file,) = source.files
    assert (file.path, file.sha256, file.location.read_bytes()) == ("127.0.0.1/docs/pump.md", PIN, PAGE)
    again = resolve(tmp_path, uri, lock=locked(source), locked=True, offline=True)
    assert again == source
    assert Web.asked == ["/docs/pump.md"]


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/guide", "text/html; charset=utf-8", "127.0.0.1/guide.html"),
        ("/", "text/html", "127.0.0.1/index.html"),
        ("/a%20b/x.d/../c.pdf", "application/pdf", "127.0.0.1/a b/c.pdf"),
        ("/x.md?v=2", "text/markdown", f"127.0.0.1/x-{hashlib.sha256(b'v=2').hexdigest()[:8]}.md"),
        ("/plain", "application/octet-stream", "127.0.0.1/plain"),
    ],
)
def test_a_name_without_a_suffix_takes_it_from_the_media_type(
    web: str, tmp_path: Path, path: str, kind: str, name: str
) -> None:
    Web.pages[path.replace("/x.d/..", "")] = (200, {"content-type": kind}, PAGE)
    assert [file.path for file in resolve(tmp_path, web + path).files] == [name]


def test_a_pin_in_the_fragment_is_not_sent_and_must_match(web: str, tmp_path: Path) -> None:
    assert resolve(tmp_path, f"{web}/docs/pump.md#sha256={PIN}").files[0].sha256 == PIN
    assert Web.asked == ["/docs/pump.md"]
    with pytest.raises(SourceError, match="expected 0000") as error:
        resolve(tmp_path, f"{web}/docs/pump.md#sha256={'0' * 64}")
    assert error.value.where.startswith(f"{web}/docs/pump.md")
    with pytest.raises(SourceError, match="is no pin"):
        resolve(tmp_path, f"{web}/docs/pump.md#install")


def test_other_bytes_than_the_lock_names_are_refused(web: str, tmp_path: Path) -> None:
    uri = f"{web}/docs/pump.md"
    lock = locked(resolve(tmp_path, uri))
    Web.pages["/docs/pump.md"] = (200, {}, b"changed upstream")
    elsewhere = tmp_path / "other machine"
    elsewhere.mkdir()
    with pytest.raises(SourceError, match="sha256 is") as error:
        resolve(elsewhere, uri, lock=lock)
    assert "lsbuild.lock" in error.value.hint
    assert resolve(elsewhere, uri).files[0].size == 16, "without its entry in the lock the new page is taken"
    with pytest.raises(LockError, match="not in"):
        resolve(elsewhere, uri, locked=True)


def test_a_new_pin_in_the_spec_goes_before_an_old_one_in_the_lock(web: str, tmp_path: Path) -> None:
    uri = f"{web}/docs/pump.md#sha256={PIN}"
    old = Source(uri, (sources.resolve(["a.md"], **_local(tmp_path))["a.md"].files[0],))
    assert resolve(tmp_path, uri, lock=locked(old)).files[0].sha256 == PIN


def _local(root: Path) -> dict[str, Any]:
    (root / "a.md").write_text("other")
    cache = root / ".cache"
    return {"root": root, "lock": Lock(), "cache": cache, "offline": True, "locked": False, "monitor": Silent()}


def test_offline_opens_no_connection(web: str, tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="not in the cache"):
        resolve(tmp_path, f"{web}/docs/pump.md", offline=True)
    assert Web.asked == []


def test_redirects_are_followed_a_few_times_and_never_to_less_safety(web: str, tmp_path: Path) -> None:
    Web.pages["/old"] = (302, {"location": "/docs/pump.md"}, b"")
    assert resolve(tmp_path, f"{web}/old").files[0].sha256 == PIN
    Web.pages["/loop"] = (302, {"location": "/loop"}, b"")
    with pytest.raises(SourceError, match="redirected more than 5 times"):
        resolve(tmp_path, f"{web}/loop")
    Web.pages["/file"] = (302, {"location": "file:///etc/passwd"}, b"")
    with pytest.raises(SourceError, match="less safe"):
        resolve(tmp_path, f"{web}/file")


def test_what_a_server_says_no_to_is_told(web: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the server answered 404") as error:
        resolve(tmp_path, f"{web}/nothing")
    assert error.value.where == f"{web}/nothing"


def test_a_body_that_ends_early_is_no_file(web: str, tmp_path: Path) -> None:
    Web.pages["/short"] = (200, {"content-length": "1000"}, PAGE)
    with pytest.raises(SourceError, match="cannot be fetched"):
        resolve(tmp_path, f"{web}/short")


def test_the_size_is_bounded_after_unpacking(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST", 1 << 20)
    Web.pages["/bomb"] = (200, {"content-encoding": "gzip"}, gzip.compress(b"\0" * (8 << 20)))
    with pytest.raises(SourceError, match="larger than 1 MiB"):
        resolve(tmp_path, f"{web}/bomb")
    assert not list((tmp_path / ".cache").rglob("*")) or not (tmp_path / ".cache" / "blobs").exists()


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(SourceError, match="cannot be fetched"):
        resolve(tmp_path, "http://127.0.0.1:9/x")
