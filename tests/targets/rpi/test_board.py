"""What is written into an image beside its packages; nothing is booted here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lsbuild.packing import mbr
from lsbuild.packing.archive import Member
from lsbuild_targets.rpi import board, kernel
from lsbuild_targets.rpi.board import accounts

SYSUSERS = [
    "# Groups first\ng adm 4 -\ng nogroup 65534 -\nu root 0 - /root /bin/bash\n",
    'u! systemd-network - "systemd Network Management"\nu messagebus 998 "D-Bus" /nonexistent\n',
    'u sshd -:nogroup "sshd user" /run/sshd\ng input -\nm sshd input\n',
]


def made() -> dict[str, list[list[str]]]:
    return {path: [line.split(":") for line in text.splitlines()] for path, text, _ in accounts.files(SYSUSERS)}


def test_accounts_are_those_of_the_packages_and_one_more() -> None:
    users = {row[0]: row for row in made()["etc/passwd"]}
    assert users["root"] == ["root", "x", "0", "0", "", "/root", "/bin/bash"]
    assert users["systemd-network"][2:4] == ["999", "999"]
    assert users["messagebus"][2:] == ["998", "998", "D-Bus", "/nonexistent", "/usr/sbin/nologin"]
    assert users["sshd"][2:4] == ["997", "65534"]
    assert users["pi"] == ["pi", "x", "1000", "1000", "", "/home/pi", "/bin/bash"]


def test_no_number_is_given_twice_and_nobody_has_a_password() -> None:
    found = made()
    for path in ("etc/passwd", "etc/group"):
        numbers = [row[2] for row in found[path]]
        assert len(numbers) == len(set(numbers))
    assert {row[1] for row in found["etc/shadow"]} == {"*"}
    assert sorted(row[0] for row in found["etc/group"] if row[3] == "pi") == ["adm", "netdev", "systemd-journal"]


def test_hashes_of_passwords_are_for_root_alone() -> None:
    assert {path: mode for path, _, mode in accounts.files(SYSUSERS) if "shadow" in path} == {
        "etc/shadow": 0o600,
        "etc/gshadow": 0o600,
    }


def packages() -> dict[str, Member]:
    found = {
        "usr/share/openssh/sshd_config": b"Include /etc/ssh/sshd_config.d/*.conf\n",
        "usr/lib/sysusers.d/a.conf": b"u root 0 - /root\n",
    }
    return {path: Member(path, content) for path, content in found.items()}


def test_what_tells_two_boards_apart_is_not_in_the_image() -> None:
    found = {member.path: member for member in board.files(packages())}
    assert found["etc/machine-id"].content == b""
    assert not [
        path for path in found if "ssh_host" in path or path.endswith("authorized_keys") or "random-seed" in path
    ]


def test_the_first_program_is_a_script_that_a_shell_understands(tmp_path: Path) -> None:
    text = board.init(["ext4", "mmc_block"])
    assert b"for module in ext4 mmc_block; do" in text
    assert b"@" not in text
    (tmp_path / "init").write_bytes(text)
    subprocess.run(["sh", "-n", tmp_path / "init"], check=True)
    if shutil.which("busybox"):
        subprocess.run(["busybox", "sh", "-n", tmp_path / "init"], check=True)


@pytest.mark.parametrize(
    ("root", "number", "found"),
    [("04030201-02", 2, "vdb2"), ("04030201-02", 1, "vdb1"), ("04030209-02", 2, ""), ("04030201-02", 3, "")],
)
def test_it_finds_its_partitions_among_those_of_other_disks(tmp_path: Path, root: str, number: int, found: str) -> None:
    if shutil.which("busybox") is None:
        pytest.skip("busybox is not installed: apt-get install busybox")
    (tmp_path / "dev").mkdir()
    for disk, mark in (("vda", b"\x01\x02\x03\x05"), ("vdb", b"\x01\x02\x03\x04")):
        (tmp_path / "dev" / disk).write_bytes(mbr.table(mark, (1, 1), (2, 2)))
        for index in (1, 2):
            part = tmp_path / f"sys/class/block/{disk}/{disk}{index}"
            part.mkdir(parents=True)
            (part / "partition").write_text(f"{index}\n")
    text = board.init([]).decode()
    text = text[text.index("find_part() {") :].partition("\n}\n")[0] + "\n}\n"
    text = text.replace("/sys/", f"{tmp_path}/sys/").replace('"/dev/', f'"{tmp_path}/dev/')
    words = ["busybox", "sh", "-c", f"bb=busybox root={root}\n{text}\nfind_part {number} && echo $part"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == (f"/dev/{found}" if found else "")


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("usr/lib/modules/6.12/kernel/drivers/mmc/host/sdhci-iproc.ko.xz", True),
        ("usr/lib/modules/6.12/kernel/drivers/net/ethernet/broadcom/genet/genet.ko.xz", True),
        ("usr/lib/modules/6.12/kernel/drivers/net/ethernet/intel/e1000/e1000.ko.xz", False),
        ("usr/lib/modules/6.12/kernel/drivers/gpu/drm/amd/amdgpu.ko.xz", False),
        ("usr/lib/modules/6.12/modules.order", True),
        ("usr/bin/kernel/x", True),
    ],
)
def test_the_drivers_of_boards_are_kept(path: str, kept: bool) -> None:
    assert kernel.wanted(path) is kept


def module(needs: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0end"


def test_modules_are_loaded_behind_those_that_they_need() -> None:
    folder = "usr/lib/modules/6.12/kernel/fs"
    files = {"ext4": "mbcache,jbd2", "jbd2": "crc16", "mbcache": "", "crc16": "", "other": ""}
    found = {f"{folder}/{name}.ko": Member(f"{folder}/{name}.ko", module(needs)) for name, needs in files.items()}
    found["usr/bin/busybox"] = Member("usr/bin/busybox", b"busybox")
    members = {member.path: member for member in kernel.first_root(found, "6.12")}
    init = bytes(members["init"].content or b"").decode()  # type: ignore[arg-type]
    assert "for module in mbcache crc16 jbd2 ext4; do" in init
    assert "modules/other.ko" not in members
