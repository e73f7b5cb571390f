"""``wheels:`` and ``pypi://`` with the real clients (uv, pip) against a real little package index on loopback."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lsbuild import lock as locks
from lsbuild import sources, wheels
from lsbuild.api import Platform, Source
from lsbuild.errors import OfflineError, SourceError
from lsbuild.lock import Lock
from lsbuild.running.monitor import Silent
from lsbuild.sources import index

PLATFORM = Platform("aarch64", "3.12", "2.34")


def packed(name: str, version: str, tag: str, requires: tuple[str, ...] = (), extra: bytes = b"") -> tuple[str, bytes]:
    """A wheel as a file name and its bytes."""
    stream = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": b"",
        f"{name}/weights.bin": b"weights" + extra,
        f"{info}/METADATA": "\n".join(
            [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                *(f"Requires-Dist: {each}" for each in requires),
            ]
        ).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(stream, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return f"{name}-{version}-{tag}.whl", stream.getvalue()


def shelf() -> dict[str, bytes]:
    return dict(
        [
            packed("engine", "1.0", "py3-none-any"),
            packed(
                "engine",
                "2.0",
                "cp312-cp312-manylinux_2_28_aarch64",
                ("helper>=1", "protobuf", "sympy; python_version>'3'"),
            ),
            packed("engine", "2.0", "cp312-cp312-manylinux_2_28_x86_64", ("helper>=1",)),
            packed("engine", "3.0", "cp312-cp312-manylinux_2_39_aarch64", ("helper>=1",)),
            packed("helper", "1.5", "py3-none-any"),
            packed("protobuf", "7.0", "py3-none-any"),
        ]
    )


class Index(BaseHTTPRequestHandler):
    """PEP 503: a page of links for each project."""

    files: dict[str, bytes] = {}  # noqa: RUF012 - filled by the fixture

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[0] == "simple" and len(parts) == 2:
            names = [name for name in self.files if name.startswith(f"{parts[1]}-")]
            links = [f'<a href="/files/{n}#sha256={hashlib.sha256(self.files[n]).hexdigest()}">{n}</a>' for n in names]
            self._send(200 if names else 404, "".join(links).encode(), "text/html")
        elif parts[0] == "files" and parts[1] in self.files:
            self._send(200, self.files[parts[1]], "application/octet-stream")
        else:
            self._send(404, b"", "text/plain")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def package_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    Index.files = shelf()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    for name in (
        "PIP_FIND_LINKS",
        "PIP_EXTRA_INDEX_URL",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "UV_FIND_LINKS",
        "UV_INDEX",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    yield Index.files
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(root: Path, uri: str, lock: Lock | None = None, *, offline: bool = False, locked: bool = False) -> Source:
    found = sources.resolve(
        [uri], root=root, lock=lock or Lock(), cache=root / "cache", offline=offline, locked=locked, monitor=Silent()
    )
    return found[uri]


def test_wheels_are_resolved_for_the_platform_and_then_as_locked(
    tmp_path: Path, package_index: dict[str, bytes]
) -> None:
    uri = wheels.source_uri(PLATFORM, ["engine"])
    source = fetch(tmp_path, uri)
    names = [file.path for file in source.files]
    assert names == ["engine-2.0-cp312-cp312-manylinux_2_28_aarch64.whl", "helper-1.5-py3-none-any.whl"]
    lock = Lock().merged({uri: source})
    assert "127.0.0.1" not in locks.to_json(lock).decode(), "no host is locked"

    package_index.update([packed("helper", "1.6", "py3-none-any")])
    assert fetch(tmp_path, uri, lock, offline=True, locked=True) == source, "nothing is asked"
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    again = fetch(fresh, uri, lock, locked=True)
    assert [file.sha256 for file in again.files] == [file.sha256 for file in source.files], "not the newer helper"
    assert all(file.location.is_file() for file in again.files)

    (fresh / "cache" / "blobs" / source.files[1].sha256[:2] / source.files[1].sha256).unlink()
    with pytest.raises(OfflineError, match=r"helper-1\.5-py3-none-any\.whl is not in the cache"):
        fetch(fresh, uri, lock, offline=True)


def test_a_wheel_that_was_replaced_upstream_is_refused(tmp_path: Path, package_index: dict[str, bytes]) -> None:
    uri = wheels.source_uri(PLATFORM, ["helper"])
    lock = Lock().merged({uri: fetch(tmp_path, uri)})
    package_index.update([packed("helper", "1.5", "py3-none-any", extra=b"evil")])
    (tmp_path / "other").mkdir()
    with pytest.raises(SourceError, match=r"(?i)hash"):
        fetch(tmp_path / "other", uri, lock)


def test_what_cannot_be_resolved_is_told_in_the_clients_words(tmp_path: Path, package_index: dict[str, bytes]) -> None:
    with pytest.raises(SourceError, match=r"nowhere-to-be-found[\s\S]*--offline uses what is cached"):
        fetch(tmp_path, wheels.source_uri(PLATFORM, ["nowhere-to-be-found"]))
    with pytest.raises(SourceError, match="engine"):
        fetch(tmp_path, wheels.source_uri(PLATFORM, ["engine==3.0"]))


def test_what_never_ships_can_still_be_asked_for(tmp_path: Path, package_index: dict[str, bytes]) -> None:
    source = fetch(tmp_path, wheels.source_uri(PLATFORM, ["protobuf>=6"]))
    assert [file.path for file in source.files] == ["protobuf-7.0-py3-none-any.whl"]


def test_a_package_shows_its_files(tmp_path: Path, package_index: dict[str, bytes]) -> None:
    uri = "pypi://helper==1.5"
    source = fetch(tmp_path, uri)
    assert [file.path for file in source.files][:2] == ["helper-1.5.dist-info/METADATA", "helper-1.5.dist-info/RECORD"]
    weights = source.file("helper/weights.bin")
    assert weights is not None
    assert weights.location.read_bytes() == b"weights"
    name, data = packed("helper", "1.5", "py3-none-any")
    assert source.revision == f"{name} sha256:{hashlib.sha256(data).hexdigest()}"

    lock = Lock().merged({uri: source})
    assert fetch(tmp_path, uri, lock, offline=True, locked=True) == source
    (tmp_path / "other").mkdir()
    with pytest.raises(OfflineError):
        fetch(tmp_path / "other", uri, lock, offline=True)
    assert fetch(tmp_path / "other", uri, lock).revision == source.revision
    package_index.update([packed("helper", "1.5", "py3-none-any", extra=b"evil")])
    (tmp_path / "third").mkdir()
    with pytest.raises(SourceError, match=r"(?i)hash"):
        fetch(tmp_path / "third", uri, lock)


def test_what_one_client_is_told_the_other_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_pip_setting", lambda name: f"from-pip.conf/{name}")
    assert index._for_uv({"PIP_INDEX_URL": "a", "PIP_CERT": "c"}) == {"UV_DEFAULT_INDEX": "a", "SSL_CERT_FILE": "c"}
    assert index._for_uv({"PIP_INDEX_URL": "a", "UV_DEFAULT_INDEX": "b"}) == {}
    assert index._for_uv({}) == {"UV_DEFAULT_INDEX": "from-pip.conf/index-url"}
    assert index._for_uv({"UV_INDEX_URL": "x"}) == {}
    assert index._for_pip({"UV_DEFAULT_INDEX": "a"}) == {"PIP_INDEX_URL": "a"}
    assert index._for_pip({"UV_INDEX_URL": "a"}) == {"PIP_INDEX_URL": "a"}
    assert index._for_pip({"UV_DEFAULT_INDEX": "a", "PIP_INDEX_URL": "b"}) == {}
