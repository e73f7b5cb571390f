"""The image of a card, made of a tiny system by the real tools, and read back by others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lsbuild import toolbox
from lsbuild.api import TargetError, VerifyError
from lsbuild.delivery import card, flash
from lsbuild.packing import mbr
from lsbuild.packing.archive import Member, file_sha256, write_tree
from lsbuild_targets.rpi import disk

WHEN = 1_700_000_000
BOOT_SIZE = 40 << 20
TREE = [
    Member("etc", mode=0o755),
    Member("etc/hostname", b"small\n"),
    Member("etc/machine-id", b""),
    Member("usr/bin/tool", b"#!/bin/sh\n", 0o4755),
    Member("bin", link="usr/bin"),
    Member("var/empty", mode=0o700),
    *(Member(f"usr/share/many/{number:03}", bytes([number]) * 5000) for number in range(60)),
]
BOOT = {
    "vmlinuz": b"kernel" * 1000,
    "config.txt": b"arm_64bit=1\n",
    "lsbuild.txt": b"# Settings\n#hostname=\n",
    "a-long-name.dtb": b"x",
}


@pytest.fixture(autouse=True)
def _tools() -> None:
    try:
        disk.require_tools()
    except TargetError as error:
        pytest.skip(f"{error.what}: {error.hint}")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def make(folder: Path, mask: int = 0o022) -> Path:
    """An image in ``folder``, written under another umask."""
    folder.mkdir(parents=True)
    image = folder / "small.img"
    with umask(mask):
        root = folder / "root"
        root.mkdir()
        write_tree(root, TREE, WHEN)
        disk.write(image, root, dict(BOOT), disk.identity_of(image.name), WHEN, folder, BOOT_SIZE)
    return image


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    disk.require_tools()
    return make(tmp_path_factory.mktemp("image") / "one")


def said(*words: object) -> str:
    tool = toolbox.on_path(str(words[0])) or str(words[0])
    environ = {"PATH": os.defpath, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run([tool, *map(str, words[1:])], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_builds_are_equal_to_the_last_byte(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    other = make(tmp_path / "a/longer way/two", mask=0o077)
    assert file_sha256(other) == file_sha256(image)


def test_the_table_names_two_partitions_that_fill_the_image(image: Path) -> None:
    with image.open("rb") as stream:
        boot, root = mbr.partitions(stream.read(mbr.SECTOR))
    assert boot[0] * mbr.SECTOR == disk.BOOT_OFFSET == 1 << 20
    assert root[0] == sum(boot)
    assert sum(root) * mbr.SECTOR == image.stat().st_size


def test_both_file_systems_are_clean_and_hold_what_was_given(image: Path, tmp_path: Path) -> None:
    boot, root = disk.part(image, 1, tmp_path / "boot"), disk.part(image, 2, tmp_path / "root")
    said("fsck.fat", "-n", boot)
    said("e2fsck", "-fn", root)
    assert said("mtype", "-i", boot, "::config.txt") == "arm_64bit=1\n"
    assert said("mcopy", "-i", boot, "::vmlinuz", "-") == "kernel" * 1000
    assert said("debugfs", "-R", "cat /etc/hostname", root) == "small\n"
    listed = said("debugfs", "-R", "stat /usr/bin/tool", root)
    assert "Mode:  04755" in listed
    assert "User:     0   Group:     0" in listed
    assert "mtime: 0x6553f100" in said("debugfs", "-R", "stat /etc", root)


def test_a_kernel_finds_the_root_by_what_the_command_line_says(image: Path) -> None:
    identity = disk.identity_of(image.name)[:4]
    with image.open("rb") as stream:
        stream.seek(440)
        number = int.from_bytes(stream.read(4), "little")
    assert mbr.partition_id(identity, 2) == f"{number:08x}-02"


def test_settings_are_written_to_a_card_after_it_was_flashed(image: Path, tmp_path: Path) -> None:
    packed, to = tmp_path / "small.img.zst", tmp_path / "card"
    disk.compress(image, packed)
    flash.flash(packed, to, yes=False, progress=lambda *_: None)
    card.settle(to, {"hostname": ["kitchen"], "ssh_key": []})
    card.settle(to, {"hostname": ["cellar"], "timezone": ["Europe/Berlin"]})
    text = said("mtype", "-i", f"{to}@@{disk.BOOT_OFFSET}", "::lsbuild.txt")
    assert text == "# Settings\n#hostname=\nhostname=cellar\ntimezone=Europe/Berlin\n"
    said("fsck.fat", "-n", disk.part(to, 1, tmp_path / "boot"))


def test_an_image_of_somebody_else_has_nothing_to_set(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "card"
    other.write_bytes(image.read_bytes()[: disk.BOOT_OFFSET + BOOT_SIZE])
    said("mdel", "-i", f"{other}@@{disk.BOOT_OFFSET}", "::lsbuild.txt")
    with pytest.raises(VerifyError, match=r"there is no lsbuild\.txt on its boot partition"):
        card.settle(other, {"hostname": ["kitchen"]})


def test_a_tool_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolbox, "on_path", lambda name: "" if name == "mcopy" else f"/usr/bin/{name}")
    with pytest.raises(TargetError, match="without mcopy") as refused:
        disk.require_tools()
    assert "apt-get install mtools" in refused.value.hint
