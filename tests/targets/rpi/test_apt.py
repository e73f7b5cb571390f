"""The package installed, upgraded, removed and purged by the apt of a Debian 13.

It is packed for this machine's processor, so that all of it runs. The Debian is made by debootstrap in a folder. systemd
does not run in there: that the unit starts is shown by the boot of a card.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lsbuild.api import Bundle, Platform
from lsbuild.errors import SourceError
from lsbuild.packing import deb_write, device_package
from lsbuild.sources.debian_archive import mirrors
from lsbuild_targets.rpi import contents
from lsbuild_targets.rpi.options import Options

ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
NAME = "lsbuild-small"


class Debian:
    """A Debian in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *words: str, ok: bool = True) -> str:
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            ["chroot", str(self.root), *words], env=environ, capture_output=True, text=True, check=False, timeout=600
        )
        assert (done.returncode == 0) is ok, f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def apt(self, *words: str) -> str:
        return self.run("apt-get", "-y", "-q", "--no-install-recommends", *words)


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    if not os.environ.get("LSBUILD_E2E"):
        pytest.skip("makes a whole Debian, which takes minutes: make e2e")
    if os.geteuid() != 0 or shutil.which("debootstrap") is None or platform.machine() not in ARCHES:
        pytest.skip("needs root, x86_64 or aarch64, and debootstrap: apt-get install debootstrap")
    try:
        mirror = mirrors().main
    except SourceError as error:
        pytest.skip(str(error))
    root = tmp_path_factory.mktemp("debian") / "root"
    words = [
        "debootstrap",
        "--variant=minbase",
        "--include=init-system-helpers,ca-certificates",
        "trixie",
        str(root),
        mirror,
    ]
    made = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1200)
    if made.returncode:
        pytest.skip(f"debootstrap cannot make a Debian here: {made.stdout[-300:]}{made.stderr[-300:]}")
    made_here = Debian(root)
    made_here.apt("update")
    yield made_here
    shutil.rmtree(root)


@pytest.fixture
def make_package(debian: Debian, make_bundle: Callable[..., Bundle]) -> Callable[..., str]:
    """``make_package(version)``: the path in there of the package that the target writes, for this machine's processor."""

    def make(version: str, **options: object) -> str:
        device = contents.device(Options.model_validate({"version": version, **options}))
        bundle = make_bundle(platform=Platform(platform.machine(), device.python, "2.28"))
        fields = {**device_package.fields(bundle, device), "Architecture": ARCHES[platform.machine()]}
        path = debian.root / f"root/{NAME}_{version}.deb"
        members = device_package.installed(bundle, device)
        deb_write.write(path, fields, device_package.scripts(NAME), members, 1_700_000_000)
        return f"/root/{path.name}"

    return make


def test_apt_installs_upgrades_removes_and_purges_it(debian: Debian, make_package: Callable[..., str]) -> None:
    root = debian.root
    debian.apt("install", make_package("1.0.0"))
    assert "install ok installed" in debian.run("dpkg-query", "-W", "-f", "${Status}", NAME)
    assert debian.run("dpkg", "--verify", NAME) == ""
    assert debian.run("python3", "-c", "import sys; print(*sys.version_info[:2])").split() == ["3", "13"]
    wants = root / f"etc/systemd/system/multi-user.target.wants/{NAME}.service"
    assert wants.is_symlink()
    assert (root / f"usr/lib/systemd/system/{NAME}.service").is_file()
    settings = root / f"etc/lsbuild/{NAME}.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    assert (settings.stat().st_uid, settings.stat().st_gid) == (0, 0)
    # What is not of this package has to stay as it is.
    assert debian.run("dpkg", "--audit") == ""

    settings.write_text("LSBUILD_PORT=9000\n")
    wants.unlink()  # as `systemctl disable` does
    debian.apt("install", make_package("1.1.0"))
    assert "1.1.0" in debian.run("dpkg-query", "-W", "-f", "${Version}", NAME)
    assert settings.read_text() == "LSBUILD_PORT=9000\n"
    assert not wants.is_symlink(), "an upgrade enabled what somebody had disabled"

    state = root / f"var/lib/private/{NAME}"
    state.mkdir(parents=True)
    (state / "notes.sqlite").touch()
    debian.apt("remove", NAME)
    assert not (root / f"usr/lib/{NAME}").exists()
    assert settings.is_file()
    assert state.is_dir()
    debian.apt("purge", NAME)
    assert not settings.exists()
    assert not state.exists()
    assert not list((root / "etc/systemd/system").rglob(f"*{NAME}*"))
    assert NAME not in debian.run("dpkg-query", "-W")


def test_apt_refuses_one_for_another_python(debian: Debian, make_package: Callable[..., str]) -> None:
    path = make_package("2.0.0", base={"suite": "bookworm"})
    debian.run("apt-get", "-y", "install", path, ok=False)
    assert not (debian.root / f"usr/lib/{NAME}").exists()
    assert debian.run("dpkg", "--audit") == ""
