"""Updates of a container host for real: podman runs what the host's own unit and updater say, of images of a few files."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from platform import machine

import pytest

from artifact_tools import Lsbuild
from lsbuild.packing.archive import Member
from lsbuild.packing.oci import Layout, Settings
from lsbuild_runtime.manifest import Manifest, Server, to_json
from unit_player import UnitPlayer, here

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
SERVE = 'trap "exit 0" TERM; /bin/busybox httpd -f -h /www -p "$2:$4" & wait'
CONTAINERS = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
runc = ["{runc}"]
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'


def image(folder: Path, version: str, *pages: str) -> Path:
    """An artifact as target container writes it: busybox that serves ``pages``, beside a layer that never changes."""
    name = "small"
    manifest = Manifest(
        schema=1, name=name, lsbuild=version, target="container", platform=f"linux-{machine()}-cp313", services=(),
        server=Server(), files=(),
    )  # fmt: skip
    folder.mkdir()
    layout = Layout(folder / "image", 315532800)
    layers = [
        layout.layer(_busybox(), "base"),
        layout.layer(
            [
                Member("opt/lsbuild/manifest.json", to_json(manifest)),
                *(Member(f"www{page}", version.encode()) for page in pages),
            ],
            "code",
        ),
    ]
    settings = Settings(
        entrypoint=("/bin/busybox", "sh", "-c", SERVE, "sh"), user="65532:65532", port=0,
        labels={"org.opencontainers.image.title": name},
    )  # fmt: skip
    layout.index([layout.image(ARCH[machine()], layers, settings)], f"{name}:latest")
    return folder


def _busybox() -> Iterator[Member]:
    """The program, with the libraries that it is linked with, if it is."""
    program = Path(shutil.which("busybox") or "")
    yield Member("bin/busybox", program, 0o755)
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for library in sorted({word for word in linked.split() if word.startswith("/")}):
        yield Member(library.removeprefix("/"), Path(library), 0o755)


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A podman with a storage of its own; the test is skipped where it cannot run a container."""
    for tool in ("podman", "runc", "busybox"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed; apt-get install podman runc busybox-static")
    if os.geteuid() != 0:
        pytest.skip("podman with a storage of its own needs root here")
    (tmp_path / "containers.conf").write_text(CONTAINERS.format(runc=shutil.which("runc")))
    (tmp_path / "storage.conf").write_text(STORAGE.format(folder=tmp_path))
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    try:
        tried = image(tmp_path / "tried", "0", "/x")
        pulled = subprocess.run(["podman", "pull", "-q", f"oci:{tried}/image"], capture_output=True, text=True)
        words = [
            "podman",
            "run",
            "--rm",
            "--network=host",
            "--read-only",
            "--entrypoint=/bin/busybox",
            pulled.stdout.strip(),
        ]
        done = subprocess.run([*words, "true"], capture_output=True, text=True)
        if pulled.returncode or done.returncode:
            pytest.skip(f"podman cannot run a container here: {(pulled.stderr or done.stderr).strip()[-300:]}")
        yield
    finally:
        for command in (("rm", "--all", "--force"), ("rmi", "--all", "--force"), ("volume", "rm", "--all", "--force")):
            subprocess.run(["podman", *command], capture_output=True, check=False)


def images() -> list[str]:
    done = subprocess.run(["podman", "images", "--quiet", "--no-trunc"], capture_output=True, text=True, check=True)
    return sorted(set(done.stdout.split()))


@pytest.mark.skipif(not os.environ.get("LSBUILD_E2E"), reason="a minute or two of processor: LSBUILD_E2E=1")
def test_a_container_host_goes_through_its_life(lsbuild: Lsbuild, podman: None, tmp_path: Path) -> None:
    good = ("/v1/health", "/v1/ready", "/v1/models")
    versions = {
        1: image(tmp_path / "v1", "1", *good),
        2: image(tmp_path / "v2", "2", *good),
        3: image(tmp_path / "v3", "3", "/v1/health"),
    }
    assert lsbuild("key", "new", tmp_path / "ota.key").code == 0
    words = ("--key", tmp_path / "ota.key.pub", "--out", tmp_path / "host.tar.gz")
    assert lsbuild("update", "host", versions[1], *words).code == 0
    for number, artifact in versions.items():
        before = ("--from", tmp_path / "1.lsu") if number > 1 else ()
        out = ("--out", tmp_path / f"{number}.lsu", "--version", str(number), "--health", "5" if number == 3 else "120")
        done = lsbuild("update", "make", artifact, "--key", tmp_path / "ota.key", *out, *before)
        assert done.code == 0, done.err
    # The layer that did not change is not shipped again.
    assert (tmp_path / "2.lsu").stat().st_size < 40_000 < (tmp_path / "1.lsu").stat().st_size
    host, unit = install(tmp_path)
    unit.start()
    try:
        assert update(host, "apply", tmp_path / "1.lsu") == 0
        assert unit.get("/v1/health") == "1"
        assert update(host, "apply", tmp_path / "2.lsu") == 0
        assert unit.get("/v1/health") == "2"
        assert update(host, "rollback") == 0
        served(unit, "1")
        assert update(host, "apply", tmp_path / "2.lsu", "--again") == 0
        assert update(host, "apply", tmp_path / "3.lsu") == 7
        served(unit, "2")
        assert len(images()) <= 3
    finally:
        unit.stop()


def served(unit: UnitPlayer, version: str) -> None:
    """Wait until the service that was started again serves ``version``."""
    for _ in range(600):
        unit.wait()
        if unit.get("/v1/health") == version:
            return
        threading.Event().wait(0.1)
    raise AssertionError(f"{unit.get('/v1/health')} serves, not {version}: {unit.log[-1000:]}")


def update(host: Path, *words: str | Path) -> int:
    done = subprocess.run([host / "update", *words], capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def install(tmp_path: Path) -> tuple[Path, UnitPlayer]:
    """Unpack the host's folder, elsewhere than in /opt, and read its unit as systemd does."""
    with tarfile.open(tmp_path / "host.tar.gz") as tar:
        tar.extractall(tmp_path / "opt", filter="data")
    host = tmp_path / "opt/lsbuild-small"
    (tmp_path / "unit").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    moved = {"/opt/lsbuild-small": str(host), "/var/lib/lsbuild-updates/lsbuild-small": str(tmp_path / "updates")}
    moved["/etc/lsbuild/lsbuild-small.env"] = str(tmp_path / "env")
    (tmp_path / "env").write_text(f"LSBUILD_HOST=127.0.0.1\nLSBUILD_PORT={port}\n")
    for name in ("update", "lsbuild-small.service"):
        text = (host / name).read_text()
        for old, new in moved.items():
            text = text.replace(old, new)
        (host / name).write_text(here(text))
    environ = {"LSBUILD_HOST": "127.0.0.1", "LSBUILD_PORT": str(port), "LSBUILD_PODMAN": ""}
    unit = UnitPlayer(tmp_path / "unit", (host / "lsbuild-small.service").read_text(), environ, port)
    settings = json.loads((host / "updates.json").read_text())
    (host / "updates.json").write_text(json.dumps({**settings, "restart": unit.restart}))
    return host, unit
