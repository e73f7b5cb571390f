"""The container target for real: Debian packages, both architectures, booted in every way that this machine has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from artifact_tools import Done, Lsbuild

SPEC = """\
version: 1
name: vectors
models:
  remote: {type: embedding, provider: "remote::openai", dimensions: 8, config: {base_url: "http://127.0.0.1:9/v1"}}
targets:
  container: {arch: [amd64, arm64], archives: [amd64, arm64]}
"""
SHELLS = {"sh", "bash", "dash", "busybox", "perl", "dpkg", "apt", "openssl"}


@pytest.fixture(scope="session")
def image(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution without models as a container artifact. Without a Debian mirror or a package index it skips."""
    folder = tmp_path_factory.mktemp("container")
    (folder / "spec.yaml").write_text(SPEC)
    done = lsbuild("build", folder / "spec.yaml", "--target", "container", "-o", folder / "art", "--json")
    if done.code == 3:
        pytest.skip(f"no Debian mirror or package index, and nothing cached: {done.json['error']['message']}")
    assert done.code == 0, done.out + done.err
    return folder / "art"


def failed(done: Done) -> list[str]:
    return [f"{check['name']}: {check['detail']}" for check in done.json["checks"] if not check["ok"]]


def skip_unbooted(boot: dict[str, str]) -> None:
    if boot["state"] == "skipped":
        pytest.skip(boot["detail"])


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
    done = lsbuild("verify", image, "--json")
    assert done.code == 0, failed(done)
    checks = {check["name"]: check for check in done.json["checks"]}
    if os.geteuid() != 0:
        pytest.skip("booting an image needs root")
    native = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    skip_unbooted(checks[f"{native} boot"])
    assert checks[f"{native} boot"]["state"] == "proved"


def test_without_podman_the_image_boots_in_a_chroot(lsbuild: Lsbuild, image: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    for tool in ("python3", "env"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    done = lsbuild("verify", image, "--json", environ={"PATH": str(tmp_path)})
    assert done.code == 0, failed(done)
    checks = {check["name"]: check for check in done.json["checks"]}
    native = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    skip_unbooted(checks[f"{native} boot"])
    assert "chroot" in checks[f"{native} boot"]["detail"]


def test_the_arm64_image_boots_and_answers_under_qemu(lsbuild: Lsbuild, image: Path, qemu: Path) -> None:
    if os.environ.get("LSBUILD_E2E") != "1":
        pytest.skip("a minute of emulation: set LSBUILD_E2E=1 (make e2e)")
    done = lsbuild("verify", image, "--json", environ={"PATH": f"{qemu}:{os.environ['PATH']}"})
    assert done.code == 0, failed(done)
    checks = {check["name"]: check for check in done.json["checks"]}
    skip_unbooted(checks["arm64 boot"])
    assert "QEMU" in checks["arm64 boot"]["detail"]
    assert "arm64 health" in checks


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
    size = sum(path.stat().st_size for path in image.glob("vectors-amd64.docker.tar"))
    assert size <= 60_000_000, f"{size / 1e6:.1f} MB"


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
