"""Reading .debs and joining them into a base file system."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lsbuild.api import SourceFile, StepError
from lsbuild.errors import SourceError
from lsbuild.packing import deb
from lsbuild.packing.archive import Member, file_sha256
from lsbuild.packing.rootfs import join, kept, settings

MakeDeb = Callable[..., Path]


def file(name: str, data: bytes = b"data", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mode = mode
    return info, data


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


def source(path: Path) -> SourceFile:
    return SourceFile(f"pool/main/{path.name}", path, file_sha256(path), path.stat().st_size)


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2", "", "zst"])
def test_a_deb_is_read_in_every_compression(make_deb: MakeDeb, compression: str) -> None:
    if compression == "zst" and shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    path = make_deb("app", file("./usr/bin/app", mode=0o755), link("./usr/bin/a", "app"), compression=compression)
    assert list(deb.members(path)) == [Member("usr/bin/app", b"data", 0o755), Member("usr/bin/a", link="app")]
    assert deb.control(path) == b"Package: app\nVersion: 1.0\nArchitecture: amd64\n"


@pytest.mark.parametrize(
    "member",
    [file("../evil"), file("/etc/evil"), link("./a", "../../etc"), file("./usr/../../evil")],
    ids=lambda member: str(member[0].name),
)
def test_a_hostile_deb_is_refused_by_name(make_deb: MakeDeb, member: tuple[tarfile.TarInfo, bytes]) -> None:
    with pytest.raises(SourceError, match=r"evil_1\.0_amd64\.deb: refused"):
        list(deb.members(make_deb("evil", member)))


@pytest.mark.parametrize("cut", [0, 4, 40, 100, 300])
def test_a_cut_deb_is_an_error(make_deb: MakeDeb, cut: int) -> None:
    path = make_deb("app", file("./usr/bin/app", bytes(5000)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SourceError, match=r"app_1\.0_amd64\.deb"):
        list(deb.members(path))


def test_only_what_an_image_runs_or_must_carry_is_kept() -> None:
    paths = {
        "usr/bin/python3.13": True,
        "usr/bin/perl": False,
        "bin/sh": False,
        "usr/sbin/ldconfig": False,
        "usr/share/doc/libc6/copyright": True,
        "usr/share/doc/libc6/changelog.gz": False,
        "usr/share/man/man1/x.1.gz": False,
        "usr/share/ca-certificates/mozilla/A.crt": True,
        "usr/lib/x86_64-linux-gnu/libc.so.6": True,
        "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so": False,
        "usr/lib/aarch64-linux-gnu/libthread_db.so.1": False,
        "usr/lib/python3.13/json/__init__.py": True,
        "usr/lib/python3.13/test/test_json.py": False,
        "usr/lib/python3.13/this.py": False,
        "usr/lib/python3.13/unittest/case.py": True,
        "usr/lib/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so": True,
        "usr/lib/python3.13/lib-dynload/readline.cpython-313-x86_64-linux-gnu.so": False,
        "etc/services": True,
        "etc/cron.daily/x": False,
    }
    assert {member.path for member in kept(Member(path, b"") for path in paths)} == {
        path for path, keep in paths.items() if keep
    }


def test_the_old_places_move_below_usr() -> None:
    found = kept(
        [Member("lib/x86_64-linux-gnu/libc.so.6", b""), Member("lib64/ld-linux-x86-64.so.2", link="../lib/ld.so")]
    )
    assert [member.path for member in found] == ["usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib64/ld-linux-x86-64.so.2"]


def test_certificates_become_one_bundle_in_order() -> None:
    folder = "usr/share/ca-certificates/mozilla"
    found = {
        member.path: member
        for member in settings([Member(f"{folder}/B.crt", b"B\n\n"), Member(f"{folder}/A.crt", b"A\n")], 7, "13")
    }
    assert found["etc/ssl/certs/ca-certificates.crt"].content == b"A\nB\n"
    assert found["usr/lib/ssl/cert.pem"].link == "/etc/ssl/certs/ca-certificates.crt"
    assert found["etc/passwd"].content == b"root:x:0:0:root:/:/nologin\nlsbuild:x:7:7:lsbuild:/tmp:/nologin\n"
    assert found["tmp"].mode == 0o1777
    assert found["bin"].link == "usr/bin"


def test_packages_are_joined_and_recorded_for_scanners(make_deb: MakeDeb) -> None:
    found = join(
        [source(make_deb("b", file("./usr/lib/b"))), source(make_deb("a", file("./usr/lib/a")))], lambda *_: None
    )
    assert sorted(found) == ["usr/lib/a", "usr/lib/b", "var/lib/dpkg/status.d/a", "var/lib/dpkg/status.d/b"]


def test_two_packages_with_one_file_are_refused(make_deb: MakeDeb) -> None:
    debs = [source(make_deb("a", file("./usr/lib/x", b"1"))), source(make_deb("b", file("./lib/x", b"2")))]
    with pytest.raises(StepError, match="two packages bring /usr/lib/x"):
        join(debs, lambda *_: None)


def test_a_file_behind_another_package_s_link_is_refused(make_deb: MakeDeb) -> None:
    debs = [source(make_deb("a", link("./usr/lib/x", "/etc"))), source(make_deb("b", file("./usr/lib/x/passwd")))]
    with pytest.raises(StepError, match="/usr/lib/x/passwd lies below /usr/lib/x, which is no folder"):
        join(debs, lambda *_: None)
