"""What a board does when it starts, as the very script that runs there, against a folder that stands for its root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lsbuild.delivery import card_settings
from lsbuild_targets.rpi.board import first_boot

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIY8fFdGMyBkQ5bQ1zYpU7M3nYzxyfWcE2NwZtY0d1aB you@laptop"


class Board:
    """A root with what an image has, and tools that only say how they were called."""

    def __init__(self, root: Path) -> None:
        self.root, self.tools = root, root.parent / "tools"
        for name in ("boot/firmware", "etc/lsbuild", "etc/ssh", "var/lib", "proc/self", "proc/sys/kernel", "home"):
            (root / name).mkdir(parents=True)
        for module in (first_boot, card_settings):
            path = root / "usr/lib/lsbuild" / Path(module.__file__ or "").name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(module.__file__ or "", path)
        zone = root / "usr/share/zoneinfo/Europe/Berlin"
        zone.parent.mkdir(parents=True)
        zone.touch()
        (root / "etc/hostname").write_text("small\n")
        (root / "etc/lsbuild/lsbuild-small.env").write_text("# Settings\n#LSBUILD_PORT=8321\n")
        part = root / "sys/devices/mmcblk0/mmcblk0p2"
        part.mkdir(parents=True)
        (part / "partition").write_text("2\n")
        (root / "sys/dev/block").mkdir(parents=True)
        (root / "sys/dev/block/179:2").symlink_to(part)
        (root / "proc/self/mountinfo").write_text(
            "21 1 179:2 / / rw - ext4 /dev/root rw\n22 21 179:1 / /boot/firmware rw\n"
        )
        self.tools.mkdir()
        for name in ("sfdisk", "partx", "resize2fs"):
            self.tool(name, f'cat >/dev/null; echo "{name} $*" >> "$LOG"')
        self.tool("ssh-keygen", 'echo "ssh-keygen $*" >> "$LOG"; for last; do :; done; echo key > "$last"')

    def tool(self, name: str, text: str) -> None:
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self, settings: str | None = None) -> str:
        """Switch it on, with ``settings`` on its boot partition; gives what it complained about."""
        if settings is not None:
            self.settings.write_text(settings)
        script = self.root / "usr/lib/lsbuild/first_boot.py"
        environ = {"PATH": f"{self.tools}:{os.defpath}", "LOG": str(self.log)}
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", script, self.root],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    @property
    def settings(self) -> Path:
        return self.root / "boot/firmware/lsbuild.txt"

    @property
    def log(self) -> Path:
        return self.root.parent / "log"

    def text(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "root")


def test_what_is_set_is_where_the_system_reads_it(board: Board) -> None:
    said = board.start(
        f"\ufeff# A comment\r\nhostname=kitchen\r\nssh_key={KEY}\nssh_key={KEY}2\ntimezone=Europe/Berlin\n"
        "address=192.168.1.50/24\ngateway=192.168.1.1\ndns=1.1.1.1\ndns=9.9.9.9\nenv.LSBUILD_HOST=0.0.0.0\n"
    )
    assert said == ""
    assert board.text("etc/hostname") == "kitchen\n"
    assert "127.0.1.1 kitchen\n" in board.text("etc/hosts")
    assert board.text("proc/sys/kernel/hostname") == "kitchen"
    assert board.text("home/pi/.ssh/authorized_keys") == f"{KEY}\n{KEY}2\n"
    assert (board.root / "home/pi/.ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    assert (board.root / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Berlin")
    network = board.text("etc/systemd/network/10-lsbuild.network")
    assert network.endswith("Address=192.168.1.50/24\nGateway=192.168.1.1\nDNS=1.1.1.1\nDNS=9.9.9.9\n")
    assert 'LSBUILD_HOST="0.0.0.0"\n' in board.text("etc/lsbuild/lsbuild-small.env")
    assert "#LSBUILD_PORT=8321\n" in board.text("etc/lsbuild/lsbuild-small.env")


def test_wifi_is_known_by_its_key_and_the_password_stays_nowhere(board: Board) -> None:
    board.start("wifi_ssid=IEEE\nwifi_password=password\nwifi_country=DE\n")
    text = board.text("etc/wpa_supplicant/wpa_supplicant-wlan0.conf")
    # The test vector of IEEE 802.11i, annex H.4.1: passphrase "password", SSID "IEEE".
    assert "psk=f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e\n" in text
    assert "ssid=49454545\n" in text
    assert text.startswith("country=DE\n")
    wants = board.root / "etc/systemd/system/multi-user.target.wants/wpa_supplicant@wlan0.service"
    assert wants.is_symlink()
    assert board.settings.read_text() == "wifi_ssid=IEEE\n# wifi_password was taken over\nwifi_country=DE\n"
    board.start()
    assert board.text("etc/wpa_supplicant/wpa_supplicant-wlan0.conf") == text


def test_secrets_are_written_over_where_they_stand(board: Board) -> None:
    """FAT keeps no rename whole, and what it frees it does not empty."""
    text = f"wifi_ssid=a\nwifi_password={'long and secret ' * 3}\n"
    board.settings.write_text(text)
    before = board.settings.stat()
    board.start()
    after = board.settings.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    rest = board.settings.read_text()
    assert rest.rstrip("\n") == "wifi_ssid=a\n# wifi_password was taken over"
    board.start()
    assert board.settings.read_text() == rest


def test_another_network_without_a_password_is_an_open_one(board: Board) -> None:
    board.start("wifi_ssid=IEEE\nwifi_password=password\nwifi_country=DE\n")
    board.start("wifi_ssid=cafe\nwifi_country=DE\n")
    text = board.text("etc/wpa_supplicant/wpa_supplicant-wlan0.conf")
    assert "key_mgmt=NONE" in text
    assert "psk" not in text


def test_what_is_wrong_is_told_and_the_rest_is_done(board: Board) -> None:
    said = board.start(
        "hostname=no_good\nhostname=fine\nssh_key=-----BEGIN OPENSSH PRIVATE KEY-----\ntimezone=Mars/Base\nwifi_password=short\n"
        "address=192.168.1.50\ngateway=here\ncolour=blue\njust words\nenv.1X=2\ndns=1.1.1.1\n"
    )
    assert board.text("etc/hostname") == "fine\n"
    assert not (board.root / "home/pi").exists()
    assert not (board.root / "etc/systemd/network/10-lsbuild.network").exists()
    for part in (
        "line 1: hostname 'no_good' is no name of a machine",
        "line 3: ssh_key '-----BEGIN OPENSSH PRIVATE KEY-----' is no public key of OpenSSH",
        "there is no time zone 'Mars/Base'",
        "line 5: wifi_password is no password of a network",
        "line 6: address '192.168.1.50' needs the length of its network",
        "line 7: gateway 'here' is no address",
        "line 8: 'colour' is no setting; there are hostname, ssh_key,",
        "line 9: 'just words' is no NAME=VALUE",
        "line 10: 'env.1X' is no setting",
        "gateway and dns belong to an address, and there is none",
    ):
        assert part in said, part
    assert "short" not in said


def test_a_file_of_other_bytes_stops_nothing(board: Board) -> None:
    board.settings.write_bytes(bytes(range(256)) * 4)
    assert "is no" in board.start()
    assert board.text("etc/hostname") == "small\n"


def test_a_value_cannot_bring_another_setting_of_the_server(board: Board) -> None:
    board.start('env.TOKEN=a"b\\c$d`e\n')
    assert board.text("etc/lsbuild/lsbuild-small.env").endswith('TOKEN="a\\"b\\\\c\\$d\\`e"\n')
    board.start("env.TOKEN=new\n")
    assert board.text("etc/lsbuild/lsbuild-small.env").count("TOKEN=") == 1
    assert "# env.TOKEN was taken over" in board.settings.read_text()


def test_it_grows_and_makes_its_key_once(board: Board) -> None:
    board.start()
    asked = board.log.read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["sfdisk", "partx", "resize2fs", "ssh-keygen"]
    assert asked[0].endswith("-N 2 /dev/mmcblk0")
    assert asked[2] == "resize2fs /dev/mmcblk0p2"
    board.start()
    assert board.log.read_text().splitlines() == asked


def test_a_card_that_cannot_grow_is_told_tried_again_and_stops_nothing(board: Board) -> None:
    board.tool("resize2fs", "echo no room >&2; exit 1")
    assert "lsbuild: grow: resize2fs failed: no room" in board.start("hostname=kitchen\n")
    assert board.text("etc/hostname") == "kitchen\n"
    board.tool("resize2fs", 'echo again >> "$LOG"')
    assert board.start() == ""
    assert "again" in board.log.read_text()


def test_a_power_cut_before_the_secret_was_taken_off_does_it_again(board: Board) -> None:
    settings = "wifi_ssid=IEEE\nwifi_password=password\nwifi_country=DE\nenv.A=1\n"
    board.start(settings)
    before = {path: path.read_bytes() for path in (board.root / "etc").rglob("*") if path.is_file()}
    board.start(settings)
    assert {path: path.read_bytes() for path in (board.root / "etc").rglob("*") if path.is_file()} == before


def test_without_a_boot_partition_it_starts_as_it_was(board: Board) -> None:
    assert board.start() == ""
    assert board.text("etc/hostname") == "small\n"
