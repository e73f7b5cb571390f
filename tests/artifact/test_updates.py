"""Updates for real: a compiled server, updated over a link that breaks, by the very program and unit of a package."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from artifact_tools import QUICKSTART, ROOT, Done, Lsbuild, compiled
from lsbuild.packing import updater
from lsbuild.packing.systemd import Unit, service
from unit_player import UnitPlayer, here

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Device:
    """The installed artifact with its unit, and the updater as a package brings it."""

    def __init__(self, folder: Path, artifact: Path, public: str) -> None:
        self.folder = folder
        self.factory = folder / "usr/lib/unit"
        shutil.copytree(artifact, self.factory)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        (folder / "env").write_text(f"LSBUILD_PORT={port}\n")
        self._program = folder / "update"
        made = Unit(
            name="unit",
            description="",
            python=PYTHON,
            root=str(self.factory),
            host="127.0.0.1",
            port=port,
            environment=str(folder / "env"),
            memory=1 << 30,
            threads=1,
            updater=str(self._program),
            updates=str(folder / "updates"),
        )
        environ = {"LSBUILD_STATE": str(folder / "state"), "LSBUILD_HOST": "127.0.0.1", "LSBUILD_PORT": str(port)}
        self.unit = UnitPlayer(folder, here(service(made).decode()), environ, port)
        settings = folder / "settings.json"
        settings.write_text(json.dumps({"keys": [public], "restart": self.unit.restart}))
        self._program.write_text(here(updater.program(made, str(settings)).decode()))
        self._program.chmod(0o755)

    def __enter__(self) -> Device:
        self.unit.start()
        self.unit.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self.unit.stop()

    def serving(self) -> str:
        """The folder that the running process serves."""
        pid = int((self.folder / "pid").read_text())
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        (root,) = {line.split()[-1].rsplit("/site/", 1)[0] for line in maps if "/site/" in line and ".so" in line}
        return root

    def update(self, *words: str | Path) -> Done:
        done = subprocess.run([self._program, *words], capture_output=True, text=True, timeout=900)
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)


class Breaking(SimpleHTTPRequestHandler):
    """Breaks off every third part in its middle, once; knows no ranges, as ``python -m http.server`` does not."""

    seen: ClassVar[dict[str, int]] = {}

    def copyfile(self, source: Any, outputfile: Any) -> None:
        count = self.seen[self.path] = self.seen.get(self.path, 0) + 1
        data = source.read()
        broken = "/parts/" in self.path and count == 1 and len(self.seen) % 3 == 0
        outputfile.write(data[: len(data) // 2] if broken else data)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def key(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    assert lsbuild("key", "new", folder / "ota.key", "--json").json["public"].startswith("ed25519:")
    return folder / "ota.key"


def with_code(artifact: Path, out: Path, path: str, code: str) -> Path:
    """The artifact with another module, as a build would have made it (without bytecode)."""
    shutil.copytree(artifact, out)
    source = out / path
    source.write_text(code)
    manifest = json.loads((out / "manifest.json").read_bytes())
    for entry in list(manifest["files"]):
        if entry["path"] == path:
            entry |= {"sha256": hashlib.sha256(source.read_bytes()).hexdigest(), "size": source.stat().st_size}
        elif entry["path"].startswith(f"{Path(path).parent}/__pycache__/{source.stem}."):
            manifest["files"].remove(entry)
            (out / entry["path"]).unlink()
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


@pytest.fixture(scope="module")
def second(lsbuild: Lsbuild, quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart with another sentence in the instructions of its agent."""
    folder = tmp_path_factory.mktemp("second")
    shutil.copyfile(QUICKSTART.with_name("lsbuild.lock"), folder / "lsbuild.lock")
    text = QUICKSTART.read_text().replace("../../docs", str(ROOT / "docs"))
    text = text.replace("tools/convert.py", str(QUICKSTART.parent / "tools/convert.py"))
    (folder / "spec.yaml").write_text(text.replace("threshold: 0.3}", "threshold: 0.31}"))
    return compiled(lsbuild, folder / "spec.yaml", folder / "artifact")


@pytest.fixture
def device(quickstart: Path, key: Path, tmp_path: Path) -> Iterator[Device]:
    """The quickstart, installed and serving."""
    (tmp_path / "device").mkdir()
    with Device(tmp_path / "device", quickstart, key.with_name("ota.key.pub").read_text().strip()) as found:
        yield found


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its address."""
    folder = tmp_path / "web"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Breaking, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not os.environ.get("LSBUILD_E2E"), reason="a minute or two of processor: LSBUILD_E2E=1")
def test_a_device_goes_through_its_life(
    lsbuild: Lsbuild,
    device: Device,
    second: Path,
    key: Path,
    web: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: pytest.RecordProperty,
) -> None:
    folder, url = web

    def make(artifact: Path, out: Path, *words: str | Path) -> Any:
        done = lsbuild("update", "make", artifact, "--key", key, "--out", out, "--json", *words)
        assert done.code == 0, done.out
        return done.json

    # 1: whole, from a bundle.
    first = make(device.factory, tmp_path / "1.lsu")
    assert device.update("apply", tmp_path / "1.lsu").out == "version 1 serves and is kept\n"
    assert device.serving() == str(device.folder / "updates/slots/a")
    # 2: another value of the agent, over a link that breaks.
    delta = make(second, folder, "--from", tmp_path / "1.lsu")
    done = device.update("apply", url)
    assert (done.code, done.out) == (0, "version 2 serves and is kept\n"), done.err
    assert device.serving() == str(device.folder / "updates/slots/b")
    figures = {"full": first["parts"]["total"], "delta": delta["parts"]["sent"]}
    for name, value in figures.items():
        record_property(name, value)
    with capsys.disabled():
        sys.stdout.write(f"\n  update of {figures['full']:,} bytes, of a changed agent {figures['delta']:,} ")
    assert figures["delta"] * 20 < figures["full"]
    # 3 ends as soon as it starts, 4 says that it is not ready.
    main = "app/lsbuild_runtime/serve/main.py"
    make(with_code(second, tmp_path / "3", main, "raise SystemExit(3)\n"), folder, "--from", tmp_path / "1.lsu")
    done = device.update("apply", url)
    assert (done.code, done.out) == (7, ""), done.err
    assert "version 3 did not pass its trial: it ended" in done.err
    device.unit.wait()
    page = "app/lsbuild_runtime/routes/inspect.py"
    broken = (second / page).read_text().replace("def ready(", "def ready(*_):\n    raise OSError\n\n\ndef _ready(")
    make(with_code(second, tmp_path / "4", page, broken), folder, "--from", tmp_path / "1.lsu", "--health", "20")
    done = device.update("apply", url)
    assert done.code == 7
    assert "/v1/ready was not good after 20 s: status 500" in done.err
    device.unit.wait()
    assert device.serving() == str(device.folder / "updates/slots/b")
    # What failed, or is older, is not taken.
    assert device.update("apply", url).code == 5
    done = device.update("apply", tmp_path / "1.lsu")
    assert (done.code, "already had 2" in done.err) == (5, True)
    status = device.update("status", "--json").json
    assert (status["committed"]["version"], status["failure"]["version"]["version"], status["trial"]) == (2, 4, None)


@pytest.mark.skipif(not os.environ.get("LSBUILD_E2E"), reason="a minute or two of processor: LSBUILD_E2E=1")
def test_truncated_bundles_and_wrong_keys_are_one_sentence(
    lsbuild: Lsbuild, device: Device, key: Path, tmp_path: Path
) -> None:
    words = ("update", "make", device.factory, "--key")
    assert lsbuild(*words, key, "--out", tmp_path / "1.lsu").code == 0
    data = (tmp_path / "1.lsu").read_bytes()
    (tmp_path / "short.lsu").write_bytes(data[: len(data) // 2])
    assert lsbuild("key", "new", tmp_path / "other.key").code == 0
    other = lsbuild(*words, tmp_path / "other.key", "--out", tmp_path / "other.lsu", "--from", tmp_path / "1.lsu")
    assert other.code == 0
    for name, why in (("short", "is truncated"), ("other", "this device trusts")):
        done = device.update("apply", tmp_path / f"{name}.lsu", "--json")
        assert done.code == 4
        assert why in done.json["error"]["message"]
    assert device.update("check", tmp_path / "1.lsu").out == "version 1 can be applied\n"
    assert device.update("rollback").code == 8
    assert device.serving() == str(device.factory)
