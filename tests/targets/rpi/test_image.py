"""The image that the target packs, of a tiny system in place of a Debian; read back, not booted."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lsbuild import toolbox
from lsbuild.api import Bundle, Check, TargetError
from lsbuild.packing import mbr
from lsbuild.packing.archive import Member, tree_sha256, with_folders, write_tar
from lsbuild_targets.rpi import board, boot_card, disk, record, system
from lsbuild_targets.rpi.options import Options
from lsbuild_targets.rpi.target import TARGET

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIY8fFdGMyBkQ5bQ1zYpU7M3nYzxyfWcE2NwZtY0d1aB you@laptop"
MakeCard = Callable[..., Path]


@pytest.fixture
def make_card(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> MakeCard:
    """``make_card(out, **options)``: an artifact with an image at ``out``. Skips where its tools are missing."""
    try:
        disk.require_tools()
    except TargetError as error:
        pytest.skip(f"{error.what}: {error.hint}")

    def make(out: Path, **options: object) -> Path:
        chosen = Options.model_validate({"package": "image", **options})
        (platform,) = TARGET.platforms(chosen)
        base, made = tmp_path / "base", tmp_path / "system"
        if not base.exists():
            base.mkdir()
            (base / "base.json").write_text(json.dumps({"uri": "debian:trixie/arm64?libc6", "files": {}}))
            (made / system.BOOT).mkdir(parents=True)
            for name in (system.KERNEL, system.INITRD, "bcm2711-rpi-4-b.dtb"):
                (made / system.BOOT / name).write_bytes(name.encode() * 100)
            programs = [Member(path, b"a program", 0o755) for path in board.PROTECTED]
            with (made / system.ROOT).open("wb") as stream:
                write_tar(stream, with_folders([*programs, Member("etc/machine-id", b"")]), 315532800)
        bundle = replace(make_bundle(platform=platform), extras={"base": base, "system": made})
        return TARGET.pack((bundle,), chosen, out).path

    return make


class Card:
    """The two partitions of an artifact's image, unpacked."""

    def __init__(self, artifact: Path, folder: Path) -> None:
        (packed,) = artifact.glob("*.img.zst")
        self.image = folder / "card.img"
        subprocess.run(["zstd", "-dq", packed, "-o", self.image], check=True)
        self.boot = disk.part(self.image, 1, folder / "boot")
        self.root = disk.part(self.image, 2, folder / "root")

    def text(self, name: str) -> str:
        """A file of the boot partition."""
        return _said("mtype", "-i", self.boot, f"::{name}")

    def ask(self, question: str) -> str:
        """What debugfs says of the root."""
        return _said("debugfs", "-R", question, self.root)


def _said(*words: object) -> str:
    tool = toolbox.on_path(str(words[0]))
    environ = {"PATH": os.defpath, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run([tool, *map(str, words[1:])], env=environ, capture_output=True, text=True, check=True)
    return done.stdout


def test_two_packs_are_equal_to_the_last_byte(make_card: MakeCard, tmp_path: Path) -> None:
    one = make_card(tmp_path / "one")
    before = os.umask(0o077)
    try:
        two = make_card(tmp_path / "elsewhere" / "two")
    finally:
        os.umask(before)
    assert tree_sha256(one) == tree_sha256(two)


def test_the_server_is_installed_and_enabled_and_nothing_tells_two_boards_apart(
    make_card: MakeCard, tmp_path: Path
) -> None:
    card = Card(make_card(tmp_path / "out"), tmp_path)
    _said("e2fsck", "-fn", card.root)
    _said("fsck.fat", "-n", card.boot)
    wants = card.ask("stat /etc/systemd/system/multi-user.target.wants/lsbuild-small.service")
    assert '"/usr/lib/systemd/system/lsbuild-small.service"' in wants
    assert "ExecStart=" in card.ask("cat /usr/lib/systemd/system/lsbuild-small.service")
    assert "Mode:  0600" in card.ask("stat /etc/lsbuild/lsbuild-small.env")
    assert "Mode:  04755" in card.ask("stat /usr/bin/sudo")
    assert card.ask("cat /etc/hostname") == "small\n"
    assert card.ask("cat /etc/machine-id") == ""


def test_the_command_line_names_the_partition_of_this_very_image(make_card: MakeCard, tmp_path: Path) -> None:
    card = Card(make_card(tmp_path / "out"), tmp_path)
    with card.image.open("rb") as stream:
        identity = stream.read(444)[440:]
    assert f"root=PARTUUID={mbr.partition_id(identity, 2)} " in card.text("cmdline.txt")


def test_settings_of_the_spec_stand_where_the_user_finds_them(make_card: MakeCard, tmp_path: Path) -> None:
    options = {"hostname": "kitchen", "ssh_keys": [KEY], "timezone": "Europe/Berlin"}
    card = Card(make_card(tmp_path / "out", **options), tmp_path)
    assert f"\nhostname=kitchen\nssh_key={KEY}\ntimezone=Europe/Berlin\n" in card.text("lsbuild.txt")
    assert card.ask("cat /etc/hostname") == "kitchen\n"


@pytest.mark.parametrize(("firmware", "said"), [("debian", False), ("none", True)])
def test_a_card_without_firmware_says_so(make_card: MakeCard, tmp_path: Path, firmware: str, said: bool) -> None:
    artifact = make_card(tmp_path / "out", firmware=firmware)
    assert ("THERE IS NO FIRMWARE" in Card(artifact, tmp_path).text("config.txt")) is said
    found = record.read(artifact)
    assert found is not None
    assert found.firmware == firmware


def test_where_nothing_can_open_it_verify_says_what_is_missing(
    make_card: MakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_card(tmp_path / "out", firmware="none")
    monkeypatch.setattr(toolbox, "on_path", lambda _: "")

    def ask(base_url: str) -> list[Check]:
        raise AssertionError(base_url)

    found = {check.name: check for check in TARGET.verify(artifact, ask)}
    assert found["card"].state == "skipped"
    assert "qemu-system-arm" in found["card"].detail
    assert "there is NO firmware on the card" in found["not proved"].detail
    assert boot_card.missing()
