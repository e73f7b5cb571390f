"""A bundle small enough to pack in milliseconds: a real little server where the runtime would be."""

from __future__ import annotations

import hashlib
import http.server
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from platform import machine
from typing import Any

import pytest

from debian_mirror import Archive, MakeDeb, Quiet
from lsbuild.api import Bundle, File, FileEntry, Manifest, Platform
from lsbuild.sources import debian
from lsbuild_runtime.manifest import Server, to_json

MAIN = b"""
import argparse, http.server, os, signal, sys

def main(argv):
    parser = argparse.ArgumentParser()
    for name in ("--root", "--host", "--port"):
        parser.add_argument(name)
    options = parser.parse_args(argv)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = repr((options.root, sys.path[:2], sys.flags.isolated, sorted(os.environ))).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer((options.host or "127.0.0.1", int(options.port)), Handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
"""


@pytest.fixture
def make_deb(tmp_path: Path) -> MakeDeb:
    """``make_deb(name, *members, compression=)``: a .deb as dpkg-deb writes it, of tar members (info, data)."""

    def make(name: str, *members: tuple[tarfile.TarInfo, bytes], compression: str = "xz") -> Path:
        info = tarfile.TarInfo("./control")
        control = _tar((info, f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\n".encode()), compression="gz")
        parts = (
            ("debian-binary", b"2.0\n"),
            ("control.tar.gz", control),
            (f"data.tar.{compression}".rstrip("."), _tar(*members, compression=compression)),
        )
        path = tmp_path / f"{name}_1.0_amd64.deb"
        path.write_bytes(b"!<arch>\n" + b"".join(_ar_entry(part, data) for part, data in parts))
        return path

    return make


def _tar(*members: tuple[tarfile.TarInfo, bytes], compression: str) -> bytes:
    stream = io.BytesIO()
    mode: Any = "w" if compression in ("", "zst") else f"w:{compression}"
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    if compression != "zst":
        return stream.getvalue()
    return subprocess.run(["zstd", "-cq"], input=stream.getvalue(), capture_output=True, check=True).stdout


def _ar_entry(name: str, data: bytes) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)


MakeBundle = Callable[..., Bundle]


@pytest.fixture
def here() -> Platform:
    """This machine and this Python."""
    return Platform(arch=machine(), python=f"{sys.version_info[0]}.{sys.version_info[1]}")


@pytest.fixture
def make_bundle(tmp_path: Path, here: Platform) -> MakeBundle:
    """``make_bundle(platform=, main=, extra=)``: two packages of one file each, a model, and the manifest that names them."""

    def make(platform: Platform = here, main: bytes = MAIN, extra: tuple[File, ...] = ()) -> Bundle:
        model = tmp_path / "model.bin"
        model.write_bytes(bytes(range(256)) * 64)
        files = [
            File("app/lsbuild_runtime/__init__.py", b"", component="runtime"),
            File("app/lsbuild_runtime/serve/__init__.py", b"", component="runtime"),
            File("app/lsbuild_runtime/serve/main.py", main, component="runtime"),
            File("site/wheel/data.txt", b"from a wheel\n", part="wheels", component="wheel"),
            File("models/chat/model.bin", model, part="model", component="chat"),
            *extra,
        ]
        entries = tuple(_entry(file) for file in sorted(files, key=lambda file: file.path))
        manifest = Manifest(
            schema=1,
            name="small",
            lsbuild="0.1.0",
            target="host",
            platform=platform.tag,
            services=(),
            server=Server(),
            files=entries,
        )
        files.append(File("manifest.json", to_json(manifest)))
        return Bundle(platform, manifest, tuple(sorted(files, key=lambda file: file.path)))

    return make


def _entry(file: File) -> FileEntry:
    data = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
    return FileEntry(
        path=file.path,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        part=file.part,
        component=file.component,
    )


@pytest.fixture(scope="module")
def key() -> Iterator[Path]:
    """The home of a fresh signing key; ``ring.gpg`` in it is what trusts it."""
    for tool in ("gpg", "gpgv", "gpgconf"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    # A short path: gpg's agent listens on a socket in there.
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--passphrase", ""]
        made = [*gpg, "--quick-generate-key", "Test <test@example>", "ed25519", "sign"]
        subprocess.run(made, check=True, capture_output=True)
        ring = subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
        Path(home, "ring.gpg").write_bytes(ring)
        yield Path(home)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True, capture_output=True)


@pytest.fixture
def archive(tmp_path: Path, key: Path, make_deb: MakeDeb, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """The archive, signed with a key that is the only one trusted."""
    monkeypatch.setattr(debian, "KEYRINGS", (key / "ring.gpg",))
    return Archive(tmp_path / "mirror", key, make_deb)


@pytest.fixture
def mirror(archive: Archive) -> Iterator[str]:
    """The archive, served on this machine."""
    handler = partial(Quiet, directory=str(archive.root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
