"""What the target rpi writes and refuses; nothing is booted here."""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lsbuild.api import File, TargetError
from lsbuild.packing import deb
from lsbuild.packing.archive import tree_sha256
from lsbuild_targets.rpi import system
from lsbuild_targets.rpi.options import Options
from lsbuild_targets.rpi.target import TARGET

MakePi = Callable[..., Path]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIY8fFdGMyBkQ5bQ1zYpU7M3nYzxyfWcE2NwZtY0d1aB you@laptop"


def library(page: int) -> bytes:
    """A 64-bit ELF file for aarch64 with one loaded segment aligned to ``page`` and nothing else."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 120, 120, page)


def installed(artifact: Path) -> dict[str, Any]:
    (path,) = artifact.glob("*.deb")
    return {member.path: member for member in deb.members(path)}


def unit_of(artifact: Path) -> dict[str, list[str]]:
    text = installed(artifact)["usr/lib/systemd/system/lsbuild-small.service"].content.decode()
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_a_deb_and_a_tar_are_written_twice_the_same(make_pi: MakePi, tmp_path: Path) -> None:
    one, two = make_pi(tmp_path / "one"), make_pi(tmp_path / "other" / "two")
    names = ["artifact.json", "lsbuild-small_1.0.0_arm64.deb", "lsbuild-small_1.0.0_arm64.tar.gz", "manifest.json"]
    assert sorted(path.name for path in one.iterdir()) == names
    assert tree_sha256(one) == tree_sha256(two)
    assert TARGET.manifests(one)[0].name == "small"
    assert TARGET.manifests(tmp_path) == ()


@pytest.mark.parametrize("package", ["deb", "tar", ["tar"]])
def test_one_package_may_be_enough(make_pi: MakePi, tmp_path: Path, package: object) -> None:
    out = make_pi(tmp_path / "out", package=package)
    kind = package if isinstance(package, str) else "tar"
    assert list(json.loads((out / "artifact.json").read_text())["files"]) == [kind]


def test_the_package_belongs_to_the_python_of_the_system(make_pi: MakePi, tmp_path: Path) -> None:
    out = make_pi(tmp_path / "out", base={"suite": "bookworm"}, version="2.1", maintainer="A B <a@b.example>")
    (path,) = out.glob("lsbuild-small_2.1_arm64.deb")
    control = deb.control(path).decode()
    assert "Depends: python3 (>= 3.11), python3 (<< 3.12), libc6 (>= 2.36)," in control
    assert "Maintainer: A B <a@b.example>\n" in control
    assert "Architecture: arm64\n" in control


def test_settings_are_for_root_alone_and_kept(make_pi: MakePi, tmp_path: Path) -> None:
    settings = installed(make_pi(tmp_path / "out"))["etc/lsbuild/lsbuild-small.env"]
    assert settings.mode == 0o600
    assert b"#LSBUILD_PORT=8321\n" in settings.content


def test_the_unit_is_confined_limited_and_watched(make_pi: MakePi, tmp_path: Path) -> None:
    unit = unit_of(make_pi(tmp_path / "out", profile="zero2w"))
    wanted = {
        "Type": "notify",
        "DynamicUser": "yes",
        "StateDirectory": "lsbuild-small",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "WatchdogSec": "60",
        "CapabilityBoundingSet": "",
        "MemoryMax": str(320 << 20),
        "CPUQuota": "285%",
        "CPUAffinity": "0 1 2",
        "WantedBy": "multi-user.target",
    }
    assert {key: unit[key][0] for key in wanted} == wanted
    assert unit["ExecStart"][0].startswith("/usr/bin/python3.13 -I -S -B -X utf8 -c ")
    assert "--root /usr/lib/lsbuild-small " in unit["ExecStart"][0]


def test_limits_of_the_spec_go_before_those_of_the_profile(make_pi: MakePi, tmp_path: Path) -> None:
    unit = unit_of(make_pi(tmp_path / "out", profile="rpi5", memory="2GiB", threads=2))
    assert unit["MemoryMax"] == [str(2 << 30)]
    assert unit["CPUAffinity"] == ["0 1"]


def test_the_tar_is_one_folder_with_the_same_unit_for_opt(make_pi: MakePi, tmp_path: Path) -> None:
    out = make_pi(tmp_path / "out")
    with tarfile.open(next(out.glob("*.tar.gz"))) as tar:
        assert {name.partition("/")[0] for name in tar.getnames()} == {"lsbuild-small"}
        assert tar.getmember("lsbuild-small/run").mode == 0o755
        reader = tar.extractfile("lsbuild-small/lsbuild-small.service")
        assert reader is not None
        text = reader.read().decode()
    packed = installed(out)["usr/lib/systemd/system/lsbuild-small.service"].content.decode()
    assert text == packed.replace("/usr/lib/lsbuild-small", "/opt/lsbuild-small")


@pytest.mark.parametrize("arch", ["armv7l", "armhf", "armv6l"])
def test_32_bit_is_refused_with_what_to_do(arch: str) -> None:
    with pytest.raises(ValidationError, match=r"has 32 bits.*64-bit Raspberry Pi OS"):
        Options.model_validate({"arch": arch})


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "rpi3"},
        {"threads": 5},
        {"memory": "1MB"},
        {"package": ["deb", "deb"]},
        {"package": []},
        {"package": "rpm"},
        {"version": "v1"},
        {"maintainer": "me"},
        {"hostname": "x"},
        {"firmware": "none"},
        {"ssh_keys": [KEY]},
        {"package": "image", "hostname": "no_good"},
        {"package": "image", "ssh_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]},
        {"package": "image", "timezone": "../etc"},
        {"package": "image", "base": {"suite": "bookworm"}},
        {"package": "image", "firmware": ""},
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)


def test_what_belongs_to_an_image_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"timezone is that of an image: add image to package, or leave it out"):
        Options.model_validate({"timezone": "UTC"})
    with pytest.raises(ValidationError, match=r"ssh_key 'AAAA' is no public key of OpenSSH"):
        Options.model_validate({"package": "image", "ssh_keys": ["AAAA"]})


@pytest.mark.parametrize(
    ("options", "kernel", "firmware"),
    [
        ({"profile": "rpi4"}, "debian:trixie/arm64?linux-image-arm64,", "#component=non-free-firmware"),
        ({"profile": "rpi5", "firmware": "none"}, "debian:trixie-backports/arm64?linux-image-arm64,", ""),
        ({"profile": "zero2w", "firmware": "./boot"}, "debian:trixie/arm64?", "./boot"),
    ],
)
def test_a_board_has_a_kernel_that_knows_it_and_the_firmware_that_was_chosen(
    options: dict[str, object], kernel: str, firmware: str
) -> None:
    found = system.sources(Options.model_validate({"package": "image", **options}))
    assert found["kernel"].startswith(kernel)
    assert found.get("firmware", "").endswith(firmware)
    assert ("firmware" in found) == bool(firmware)


def test_a_mirror_of_the_spec_is_asked_for_everything() -> None:
    base = {"mirror": "http://mirror.example/debian", "security": "http://mirror.example/security"}
    found = system.sources(Options.model_validate({"package": "image", "base": base}))
    behind = "#mirror=http://mirror.example/debian&security=http://mirror.example/security"
    assert all(behind in uri for uri in found.values())
    assert found["firmware"].endswith("&component=non-free-firmware")


def test_a_library_for_small_pages_is_refused_for_a_pi_5(make_pi: MakePi, tmp_path: Path) -> None:
    small = tmp_path / "small.so"
    small.write_bytes(library(4096))
    extra = (File("site/small.so", small, part="wheels"),)
    make_pi(tmp_path / "four", extra=extra, profile="rpi4")
    with pytest.raises(TargetError, match=r"aligned to 4096 bytes, and the kernel's pages have 16384") as refused:
        make_pi(tmp_path / "five", extra=extra, profile="rpi5")
    assert refused.value.where == "site/small.so"
    assert not (tmp_path / "five").exists()


def test_a_library_for_large_pages_fits_a_pi_5(make_pi: MakePi, tmp_path: Path) -> None:
    large = tmp_path / "large.so"
    large.write_bytes(library(65536))
    make_pi(tmp_path / "five", extra=(File("site/large.so", large, part="wheels"),), profile="rpi5")
