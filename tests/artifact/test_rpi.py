"""The target rpi for real: packages for a Raspberry Pi, read by dpkg, and booted on Debian for arm64 under QEMU."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from artifact_tools import Lsbuild, packed, proved, skip_unbooted
from lsbuild_targets.rpi import boot_card, disk

KEY = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
"""With it the unit starts its server by way of the slots, on the system of a board as well."""


@pytest.fixture(scope="session")
def artifact(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution without models as an artifact for a Pi 5."""
    return packed(
        lsbuild,
        tmp_path_factory.mktemp("rpi"),
        "rpi",
        f"{{profile: rpi5, package: [deb, tar], updates: {{keys: '{KEY}'}}}}",
    )


def test_the_very_package_boots_on_debian_for_arm64_and_answers(lsbuild: Lsbuild, artifact: Path, qemu: Path) -> None:
    checks = proved(lsbuild, artifact, PATH=f"{qemu}:{os.environ['PATH']}")
    skip_unbooted(checks["boot"])
    assert checks["not proved"]["state"] == "unproved"
    assert "cortex-a76" in checks["boot"]["detail"]
    assert checks["sd_notify"]["detail"] == "READY=1, STOPPING=1"
    assert "pages of 16 KiB" in checks["native code"]["detail"]


@pytest.mark.skipif(not os.environ.get("LSBUILD_E2E"), reason="minutes of emulation: make card, or make e2e")
@pytest.mark.parametrize("profile", ["rpi4", "rpi5"])
def test_a_card_boots_from_its_own_partitions_and_answers(lsbuild: Lsbuild, tmp_path: Path, profile: str) -> None:
    """Two kernels: that of Debian 13, and for a Pi 5 that of its backports."""
    tools = dict.fromkeys((*disk.TOOLS, *boot_card.TOOLS))
    if missing := [fault for tool in tools if (fault := tool.fault())]:
        pytest.skip("; ".join(missing))
    card = packed(lsbuild, tmp_path, "rpi", f"{{profile: {profile}, package: image}}", seconds=900)
    checks = proved(lsbuild, card, seconds=boot_card.SECONDS + 300)
    wanted = (
        "as written",
        "boot",
        "health",
        "bad settings",
        "file system",
        "root grown",
        "settings",
        "identity",
        "secrets",
    )
    assert {f"card: {name}" for name in wanted} <= checks.keys()
    print(f"\ncard: {checks['card: boot']['detail']}")


def test_dpkg_installs_it_enables_its_unit_and_removes_it(artifact: Path, tmp_path: Path) -> None:
    for tool in ("dpkg", "deb-systemd-helper"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    root = tmp_path / "root"
    for name in ("info", "updates"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    dpkg = [
        "dpkg",
        f"--root={root}",
        "--force-architecture,depends,not-root,script-chrootless",
        f"--log={tmp_path}/log",
    ]
    (path,) = artifact.glob("*.deb")
    subprocess.run([*dpkg, "--install", path], check=True, capture_output=True)
    assert (root / "etc/systemd/system/multi-user.target.wants/lsbuild-vectors.service").is_symlink()
    assert (root / "usr/lib/lsbuild-vectors/manifest.json").is_file()
    assert subprocess.run([*dpkg, "--verify"], check=True, capture_output=True).stdout == b""
    subprocess.run([*dpkg, "--purge", "lsbuild-vectors"], check=True, capture_output=True)
    assert not (root / "usr").exists()
    assert not (root / "etc/lsbuild").exists()


def test_systemd_knows_every_line_of_the_unit(artifact: Path, tmp_path: Path) -> None:
    for tool in ("systemd-analyze", "dpkg-deb"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    (path,) = artifact.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", path, tmp_path], check=True)
    unit = tmp_path / "usr/lib/systemd/system/lsbuild-vectors.service"
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    if "Failed to" in done.stderr and "bus" in done.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {done.stderr.strip()}")
    others = [
        line for line in done.stderr.splitlines() if "is not executable" not in line and "lsbuild-vectors" in line
    ]
    assert others == []
