"""Packages that we write, read back by our own reader and by dpkg."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lsbuild.api import TargetError
from lsbuild.packing import deb, deb_write
from lsbuild.packing.archive import Member

LONG = f"usr/lib/app/{'folder-with-a-long-name/' * 8}file.py"
FIELDS = {
    "Package": "app",
    "Version": "1.0",
    "Architecture": "all",
    "Maintainer": "A <a@b>",
    "Description": "one\ntwo\nthree",
}


def write(path: Path, *more: Member, mtime: int = 315532800) -> Path:
    members = [
        Member("usr/lib/app/run", b"#!/bin/sh\n", 0o755),
        Member("usr/lib/app/link", link="run"),
        Member("etc/app.env", b"A=1\n", 0o600),
        Member(LONG, b"x" * 1000),
        *more,
    ]
    deb_write.write(path, FIELDS, {"postinst": "#!/bin/sh\nexit 0\n"}, members, mtime)
    return path


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "app.deb")
    files = {member.path: member for member in deb.members(path) if member.content is not None or member.link}
    assert files["usr/lib/app/run"].mode == 0o755
    assert files["etc/app.env"] == Member("etc/app.env", b"A=1\n", 0o600)
    assert files["usr/lib/app/link"].link == "run"
    assert files[LONG].content == b"x" * 1000
    assert b"Description: one\n two\n three\n" in deb.control(path)
    assert b"Installed-Size: 16\n" in deb.control(path)


def test_the_same_members_in_another_order_are_the_same_bytes(tmp_path: Path) -> None:
    one = write(tmp_path / "one.deb", Member("a", b"1"), Member("b", b"2"))
    two = write(tmp_path / "two.deb", Member("b", b"2"), Member("a", b"1"))
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != write(tmp_path / "three.deb", Member("a", b"1"), mtime=315532801).read_bytes()


def test_a_file_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="plain relative path"):
        write(tmp_path / "app.deb", Member("../evil", b""))


def test_extracting_writes_files_with_their_modes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    deb.extract(write(tmp_path / "app.deb"), root)
    assert (root / "etc/app.env").stat().st_mode & 0o777 == 0o600
    assert (root / LONG).stat().st_size == 1000


def test_dpkg_reads_installs_verifies_and_purges_it(tmp_path: Path) -> None:
    for tool in ("dpkg", "dpkg-deb"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    path, root = write(tmp_path / "app.deb"), tmp_path / "root"
    listed = subprocess.run(["dpkg-deb", "--contents", path], check=True, capture_output=True, text=True).stdout
    assert "-rw------- 0/0" in listed
    assert f"./{LONG}" in listed
    for name in ("info", "updates"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    dpkg = ["dpkg", f"--root={root}", "--force-not-root,script-chrootless", f"--log={tmp_path}/log"]
    subprocess.run([*dpkg, "--install", path], check=True, capture_output=True)
    (root / "etc/app.env").write_text("A=2\n")
    # A file below /etc is the administrator's: dpkg names it with a "c", and keeps it at the next installation.
    assert (
        subprocess.run([*dpkg, "--verify"], check=False, capture_output=True, text=True).stdout
        == "??5?????? c /etc/app.env\n"
    )
    subprocess.run([*dpkg, "--install", path], check=True, capture_output=True)
    assert (root / "etc/app.env").read_text() == "A=2\n"
    subprocess.run([*dpkg, "--purge", "app"], check=True, capture_output=True)
    assert not (root / "usr").exists()
