"""A little device for tests of updates: artifacts of a few files, a key, a server that is as healthy as its version."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from lsbuild.delivery import signing
from lsbuild.delivery import update as updating
from lsbuild_runtime.manifest import FileEntry, Manifest, Server, to_json
from lsbuild_runtime.updates import course, place, start, state
from lsbuild_runtime.updates.course import Device
from lsbuild_runtime.updates.disk import Disk
from lsbuild_runtime.updates.errors import UpdateError
from lsbuild_runtime.updates.place import Place
from lsbuild_runtime.updates.sources import Source, find

Tree = Mapping[str, bytes]
WEIGHTS = hashlib.shake_256(b"weights").digest((1 << 20) + 4096)
"""Just more than one piece, and nothing that a compressor could make smaller."""


def tree(text: str, weights: bytes = WEIGHTS) -> Tree:
    """The files of a version: code, a package of small files, weights that stay the same."""
    small = {f"site/wheel/m{number}.py": f"value = {number}\n".encode() * 40 for number in range(3)}
    return {"app/code.py": f"version = {text!r}\n".encode(), "models/chat/model.bin": weights, **small}


def write_artifact(folder: Path, files: Tree, name: str = "tiny", platform: str = "linux-x86_64-cp311") -> Path:
    """An artifact as target host writes it, of just these files."""
    for path, data in {**files, "run": b"#!/bin/sh\n"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    entries = tuple(
        FileEntry(path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data), part="app")
        for path, data in sorted(files.items())
    )
    manifest = Manifest(
        schema=1, name=name, lsbuild="0", target="host", platform=platform, services=(), server=Server(), files=entries
    )
    (folder / "manifest.json").write_bytes(to_json(manifest))
    return folder


def make(
    artifact: Path, key: signing.SigningKey, out: Path, version: int, *, health_s: int = 60, **order: Any
) -> updating.Made:
    """A signed update of it, without a word."""
    wanted = updating.Order(artifact=artifact, version=version, health_s=health_s, **order)
    return updating.make(wanted, key, out, lambda _line: None)


class Swift(Disk):
    """Syncs nothing: a test that cuts no power need not wait for a disk."""

    def sync_file(self, path: Path) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass

    def sync_all(self, path: Path) -> None:
        pass


class Machine:
    """A device whose service runs in this process: it serves what would be started, and answers over HTTP.

    ``text`` of the running version decides: ``sick`` answers 503, ``crash`` ends at once and is started again.
    """

    def __init__(self, folder: Path, factory: Path, keys: list[str], disk: Disk | None = None) -> None:
        self.place = Place("tiny", factory, folder / "root", folder / "settings.json", folder / "env")
        self.place.settings.write_text(json.dumps({"keys": keys}))
        self.disk = disk or Swift()
        self.boot = "boot-1"
        self.running = ""
        self.starts = 0
        self._now = 0.0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.place.environment.write_text(f"LSBUILD_PORT={self._server.server_port}\n")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        machine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(503 if "sick" in machine.running else 200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def restart(self) -> None:
        """What systemd does: ExecStartPre, ExecStart, and again when that ends."""
        for _ in range(4):
            self.starts += 1
            with suppress(UpdateError, OSError):
                course.begin(self.place, self.disk, self.boot)
            self.running = (self.root / "app/code.py").read_text()
            if "crash" not in self.running:
                return

    @property
    def root(self) -> Path:
        """The folder that a start serves."""
        return Path(start.chosen(str(self.place.factory), str(self.place.root)))

    @property
    def device(self) -> Device:
        """For the stages."""
        settings = place.read_settings(self.place)
        identity = place.read_identity(self.place)
        return Device(self.place, identity, settings, self.disk, self, self.boot, self._wait, lambda: self._now)

    def _wait(self, seconds: float) -> None:
        self._now += seconds

    def state(self) -> state.State:
        """The record."""
        return self.device.state()

    def apply(self, source: Path | str | Source, *, again: bool = False) -> bool:
        """What the command does; whether there was something to do."""
        device = self.device
        where = find(str(source)) if isinstance(source, Path | str) else source
        with course.alone(self.place, self.disk):
            found = course.check(device, where, again=again)
            if found is None:
                return False
            had = course.bring(device, found, where, lambda *_: None)
            course.build(device, found, had)
            course.try_out(device, found, place.read_address(self.place, device.identity))
            return True

    def files(self) -> Tree:
        """What a start would serve, without the manifest."""
        root = self.root
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and path.name not in ("manifest.json", "run")
        }
