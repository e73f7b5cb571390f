"""The container target for real: Debian packages, both architectures, booted in every way that this machine has."""

from __future__ import annotations

import errno
import http.server
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from artifact_tools import Lsbuild, packed, post, proved, skip_unbooted
from image_registry import registry
from lsbuild import toolbox
from lsbuild.delivery import pushing
from lsbuild.errors import VerifyError
from lsbuild.packing.boot import Running, running
from lsbuild.packing.oci import Layout, Settings
from lsbuild.packing.oci_read import blob_path, images, published
from lsbuild.packing.podman import Podman, podman

NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
PYTHON = "/usr/bin/python3.13"
SHELLS = {"sh", "bash", "dash", "busybox", "perl", "dpkg", "apt", "openssl"}


@pytest.fixture(scope="session")
def image(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution without models as a container artifact."""
    options = "{arch: [amd64, arm64], archives: [amd64, arm64]}"
    return packed(lsbuild, tmp_path_factory.mktemp("container"), "container", options)


def names(artifact: Path, arch: str) -> set[str]:
    with tarfile.open(artifact / f"vectors-{arch}.docker.tar") as outer:
        reader = outer.extractfile("manifest.json")
        assert reader is not None
        (entry,) = json.load(reader)
        found = set()
        for layer in entry["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer), mode="r:gz") as tar:
                found |= set(tar.getnames())
    return found


def test_every_image_that_can_boot_here_boots_and_answers(lsbuild: Lsbuild, image: Path) -> None:
    checks = proved(lsbuild, image)
    if os.geteuid() != 0:
        pytest.skip("booting an image needs root")
    skip_unbooted(checks[f"{NATIVE} boot"])
    assert checks[f"{NATIVE} boot"]["state"] == "proved"


def test_without_podman_the_image_boots_in_a_chroot(lsbuild: Lsbuild, image: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    for tool in ("python3", "env"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    checks = proved(lsbuild, image, PATH=str(tmp_path))
    skip_unbooted(checks[f"{NATIVE} boot"])
    assert "chroot" in checks[f"{NATIVE} boot"]["detail"]


def test_the_arm64_image_boots_and_answers_under_qemu(
    lsbuild: Lsbuild, image: Path, request: pytest.FixtureRequest
) -> None:
    if os.environ.get("LSBUILD_E2E") != "1":
        pytest.skip("a minute of emulation: set LSBUILD_E2E=1 (make e2e)")
    qemu = request.getfixturevalue("qemu")  # fetched only where it is used
    checks = proved(lsbuild, image, PATH=f"{qemu}:{os.environ['PATH']}")
    skip_unbooted(checks["arm64 boot"])
    assert "QEMU" in checks["arm64 boot"]["detail"]
    assert "arm64 health" in checks


@dataclass(frozen=True)
class Pulled:
    """The image as podman has it, after it went through a registry."""

    podman: Podman
    name: str


@pytest.fixture(scope="module")
def pulled(lsbuild: Lsbuild, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulled]:
    """Pushed by ``lsbuild push`` to a real registry, and pulled from there by its digest."""
    for tool in (toolbox.PODMAN, toolbox.RUNC):
        if tool.fault():
            pytest.skip(tool.fault())
    if os.geteuid() != 0:
        pytest.skip("podman with runc needs root here")
    with registry(tmp_path_factory.mktemp("registry")) as host, podman() as here:
        done = lsbuild("push", f"{host}/team/vectors:1", image, "--json")
        assert done.code == 0, done.out + done.err
        assert done.json["image"] == f"{host}/team/vectors@{published(image / 'image').top.digest}"
        name = here.pull(f"docker://{done.json['image']}", NATIVE, "--tls-verify=false")
        try:
            here.ask_python(name, PYTHON, "")
        except VerifyError as error:
            pytest.skip(f"podman cannot run a container here: {error}")
        yield Pulled(here, name)


def test_what_the_registry_gives_runs_as_nobody_and_can_write_nowhere(pulled: Pulled) -> None:
    code = (
        "import os\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())\n"
        "names = ('Uid', 'Gid', 'CapEff', 'CapBnd', 'NoNewPrivs')\n"
        "print([status[name].split()[0] for name in names])\n"
        "for folder in ('/', '/tmp', '/opt/lsbuild', '/var/lib/lsbuild'):\n"
        "    try: open(os.path.join(folder, 'x'), 'w')\n"
        "    except OSError as error: print(folder, error.errno)"
    )
    told = pulled.podman.ask_python(pulled.name, PYTHON, code).splitlines()
    assert told[0] == "['65532', '65532', '0000000000000000', '0000000000000000', '1']"
    read_only, not_ours = errno.EROFS, errno.EACCES
    assert [line.split()[0] for line in told[1:]] == ["/", "/tmp", "/opt/lsbuild", "/var/lib/lsbuild"]
    assert {int(line.split()[1]) for line in told[1:]} <= {read_only, not_ours}


def test_there_is_nothing_to_start_but_python(pulled: Pulled) -> None:
    with pytest.raises(VerifyError, match=r"not found|no such file"):
        pulled.podman.ask_python(pulled.name, "/bin/sh", "")


def test_the_health_check_tells_the_well_from_the_dead(pulled: Pulled, image: Path) -> None:
    found = next(each for each in images(image / "image") if each.arch == NATIVE)
    python, *words = found.config["config"]["Healthcheck"]["Test"][1:]
    assert python == PYTHON
    probe = words[-1].replace("8321", "{port}")
    with pytest.raises(VerifyError):
        pulled.podman.ask_python(pulled.name, PYTHON, probe.format(port=9))
    with served(pulled) as (_, url):
        assert pulled.podman.ask_python(pulled.name, PYTHON, probe.format(port=url.rpartition(":")[2])) == ""


@contextmanager
def served(pulled: Pulled, **environ: str) -> Iterator[tuple[Running, str]]:
    """A container of the image, healthy; and its address."""
    options = [word for name, value in environ.items() for word in ("-e", f"{name}={value}")]
    command = pulled.podman.run(pulled.name, ("--host", "127.0.0.1", "--port", "0"), options)
    with running(command, pulled.podman.folder, pulled.podman.env) as started:
        started.wait(120)
        yield started, started.base_url


class Upstream(http.server.BaseHTTPRequestHandler):
    """A server of embeddings that answers when it is told to."""

    arrived = threading.Event()
    go_on = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.arrived.set()
        self.go_on.wait(60)
        vector = {"object": "embedding", "index": 0, "embedding": [1.0] + [0.0] * 7}
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        body = json.dumps({"object": "list", "data": [vector], "model": "remote", "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def test_a_request_on_its_way_is_answered_after_sigterm_and_the_exit_code_is_0(pulled: Pulled) -> None:
    answers: list[Any] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            upstream = f"http://127.0.0.1:{server.server_port}/v1"
            with served(pulled, UPSTREAM=upstream) as (started, url):
                body = {"model": "remote", "input": "a"}
                asked = threading.Thread(target=lambda: answers.append(post(f"{url}/v1/embeddings", body)))
                asked.start()
                assert Upstream.arrived.wait(60)
                started.terminate()
                closed(url)
                assert not answers, "it ended before the answer"
                Upstream.go_on.set()
                asked.join(120)
                code = started.stop()
        finally:
            Upstream.go_on.set()
            server.shutdown()
    assert answers[0]["data"][0]["embedding"][0] == 1.0
    assert code == 0


def test_another_image_is_built_upon_by_its_digest_and_boots(
    lsbuild: Lsbuild, image: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The base is our Debian layer alone, an image of its own in a real registry; only what is above it is new."""
    if os.geteuid() != 0:
        pytest.skip("booting an image needs root")
    whole = next(each for each in images(image / "image") if each.arch == NATIVE)
    (debian, diff_id), *_ = whole.layers
    layout = Layout(tmp_path / "base", 0)
    layer = layout.adopt(image / "image" / blob_path(debian.digest), debian, diff_id, "Debian")
    settings = Settings(entrypoint=("/bin/sh",), user="", port=0, env=("PATH=/usr/bin", "FROM_BASE=1"))
    layout.index([layout.image(NATIVE, [layer], settings)], "base:1")
    with registry(tmp_path_factory.mktemp("registry")) as host:
        base = pushing.publish(layout.root, f"{host}/base", print, environ={"LSBUILD_CACHE": str(tmp_path)})
        # With the C library of that base, code and wheels are those of the other image, compiled already.
        options = f'{{arch: [{NATIVE}], archives: [], base: {{image: "oci://{base.image}", glibc: "2.41"}}}}'
        shutil.copyfile(image.parent / "lsbuild.lock", tmp_path / "lsbuild.lock")
        made = packed(lsbuild, tmp_path, "container", options)
        lock = json.loads((tmp_path / "lsbuild.lock").read_text())["sources"][f"oci://{base.image}#linux/{NATIVE}"]
        assert lock["revision"] == base.digest, "one platform: what the tag names is its manifest"
        assert images(made / "image")[0].layers[0][0] == debian
        done = lsbuild("push", f"{host}/ours:1", made, "--json")
        assert done.json["mounted"] + done.json["there"] >= debian.size, "the base's layer is not sent again"
    checks = proved(lsbuild, made)
    skip_unbooted(checks[f"{NATIVE} boot"])
    assert checks[f"{NATIVE} boot"]["state"] == "proved"


def closed(url: str) -> None:
    """Return once nobody listens at ``url``: the server has heard that it shall stop."""
    host, port = url.removeprefix("http://").split(":")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))):
                return
        time.sleep(0.02)
    raise AssertionError("it still listens a minute after SIGTERM")


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_there_is_no_shell_and_no_package_manager(image: Path, arch: str) -> None:
    found = names(image, arch)
    assert {Path(name).name for name in found if "bin/" in name} == {"python3.13"}
    assert not SHELLS & {Path(name).name for name in found if not name.startswith(("usr/share/doc", "var/lib/dpkg"))}


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_code_and_standard_library_are_compiled(image: Path, arch: str) -> None:
    found = names(image, arch)
    assert "opt/lsbuild/app/lsbuild_runtime/__pycache__/app.cpython-313.pyc" in found
    assert "usr/lib/python3.13/asyncio/__pycache__/runners.cpython-313.pyc" in found
    assert any(name.startswith("opt/lsbuild/site/uvicorn/__pycache__/") for name in found)


def test_an_image_without_models_stays_small(image: Path) -> None:
    """Compressed, as it is pulled; with onnxruntime, a tokenizer and a store it has to stay below 60 MB, and has 40 for them."""
    for each in images(image / "image"):
        size = sum(blob.size for blob, _ in each.layers)
        assert size <= 22_000_000, f"{each.arch}: {size / 1e6:.1f} MB"


def test_skopeo_copies_it_whole(image: Path, tmp_path: Path) -> None:
    """Both platforms, and the index over them stays byte for byte what it was."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    copy = [skopeo, "copy", "-q", "--all", f"oci:{image}/image:latest", f"oci:{tmp_path}/copy:latest"]
    assert subprocess.run(copy, check=False).returncode == 0
    digests = [
        subprocess.run([skopeo, "inspect", "--raw", f"oci:{place}:latest"], capture_output=True, check=True).stdout
        for place in (f"{image}/image", f"{tmp_path}/copy")
    ]
    assert digests[0] == digests[1]
