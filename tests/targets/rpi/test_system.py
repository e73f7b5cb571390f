"""What of the packages becomes the system of a card, and what its boot partition; without packages and without network."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsbuild.api import Source, SourceFile, StepError
from lsbuild.packing.archive import Member
from lsbuild_targets.rpi.system import _firmware, _kept, _place, _take_boot_files


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("usr/share/zoneinfo/Europe/Berlin", "usr/share/zoneinfo/Europe/Berlin"),
        ("usr/share/zoneinfo/right/Europe/Berlin", ""),
        ("usr/share/man/man1/ls.1.gz", ""),
        ("usr/share/doc/bash/copyright", "usr/share/doc/bash/copyright"),
        ("bin/su", "usr/bin/su"),
        ("usr/lib/firmware/brcm/brcmfmac43455-sdio.bin", "usr/lib/firmware/brcm/brcmfmac43455-sdio.bin"),
        ("usr/lib/firmware/brcm/brcmfmac4366c-pcie.bin", ""),
        ("lib/firmware/regulatory.db-debian", "usr/lib/firmware/regulatory.db-debian"),
        ("usr/lib/python3.13/test/test_os.py", ""),
        ("usr/lib/systemd/system-generators/systemd-gpt-auto-generator", ""),
        ("usr/lib/systemd/system/systemd-logind.service", "usr/lib/systemd/system/systemd-logind.service"),
        ("usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service", ""),
        ("usr/lib/modules/7.3/kernel/drivers/gpu/drm/amd/amdgpu.ko.xz", ""),
    ],
)
def test_what_a_board_uses_is_kept_at_its_place(path: str, kept: str) -> None:
    assert [member.path for member in _kept([Member(path, b"x")])] == ([kept] if kept else [])


@pytest.mark.parametrize(
    ("image", "trees"),
    [("boot/vmlinuz-6.12", "usr/lib/linux-image-6.12"), ("usr/lib/modules/7.3/vmlinuz", "usr/lib/modules/7.3/dtb")],
)
def test_the_boot_partition_is_taken_from_packages_of_either_layout(tmp_path: Path, image: str, trees: str) -> None:
    content = {
        image: b"kernel",
        f"{trees}/broadcom/bcm2711-rpi-4-b.dtb": b"tree",
        f"{trees}/broadcom/bcm4906-netgear-r8000p.dtb": b"of a router",
        "usr/lib/raspi-firmware/start4.elf": b"firmware",
        "usr/lib/raspi-firmware/start4db.elf": b"for debugging",
        "usr/share/doc/raspi-firmware/copyright": b"licence",
        "usr/bin/bash": b"shell",
    }
    found = {path: Member(path, data) for path, data in content.items()}
    assert _take_boot_files(found, tmp_path) in ("6.12", "7.3")
    names = ["LICENCE.raspi-firmware", "bcm2711-rpi-4-b.dtb", "start4.elf", "vmlinuz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert sorted(found) == ["usr/bin/bash", "usr/share/doc/raspi-firmware/copyright"]


def test_packages_without_a_kernel_are_told(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="have no kernel"):
        _take_boot_files({"usr/bin/bash": Member("usr/bin/bash", b"")}, tmp_path)


def given(tmp_path: Path, *names: str) -> Source:
    files = []
    for name in names:
        path = tmp_path / "given" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        files.append(SourceFile(name, path, "0" * 64, len(name)))
    return Source("./given", tuple(files))


def test_firmware_of_a_folder_goes_where_the_board_looks_for_it(tmp_path: Path) -> None:
    packages, loose = _firmware(
        given(tmp_path, "start4.elf", "fixup4.dat", "bootcode.bin", "brcm/brcmfmac43455-sdio.bin", "kernel8.img")
    )
    assert packages == []
    boot, found = tmp_path / "boot", dict[str, Member]()
    boot.mkdir()
    for name, file in loose.items():
        _place(found, boot, name, file)
    assert sorted(path.name for path in boot.iterdir()) == ["bootcode.bin", "fixup4.dat", "start4.elf"]
    assert list(found) == ["usr/lib/firmware/brcm/brcmfmac43455-sdio.bin"]


def test_a_folder_without_firmware_is_told(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"holds no start\.elf or start4\.elf") as refused:
        _firmware(given(tmp_path, "README"))
    assert "boot partition of Raspberry Pi OS" in refused.value.hint


def test_without_firmware_there_is_none() -> None:
    assert _firmware(None) == ([], {})
