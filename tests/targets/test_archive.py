"""Archives that depend on nothing but their members, and the reader that refuses hostile ones."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import IO, cast

import pytest

from lsbuild.errors import SourceError, TargetError
from lsbuild.packing import untar
from lsbuild.packing.archive import (
    ZIP_EPOCH,
    Member,
    check_paths,
    copy_file,
    gzip_stream,
    source_date_epoch,
    tree_sha256,
    with_folders,
    write_tar,
    write_tree,
    write_zip,
)

MEMBERS = (
    Member("b/run", b"#!/bin/sh\n", 0o755),
    Member("a.txt", b"text\n"),
    Member("b/link", link="run"),
    Member("tmp", mode=0o1777),
)


def tar_of(*infos: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, data in infos:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    stream.seek(0)
    return stream


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, data


HOSTILE = {
    "parent": [entry("../evil", data=b"x")],
    "parent inside": [entry("a/../../evil", data=b"x")],
    "harmless looking parent": [entry("a/../b", data=b"x")],
    "absolute": [entry("/etc/passwd", data=b"x")],
    "link out": [entry("a", tarfile.SYMTYPE, "../../etc")],
    "link out below": [entry("a/b/c", tarfile.SYMTYPE, "../../../etc")],
    "hard link out": [entry("a", tarfile.LNKTYPE, "../etc/passwd")],
    "hard link to nothing": [entry("a", tarfile.LNKTYPE, "b")],
    "hard link to a link": [entry("b", tarfile.SYMTYPE, "c"), entry("a", tarfile.LNKTYPE, "b")],
    "device": [entry("dev/null", tarfile.CHRTYPE)],
    "block device": [entry("dev/sda", tarfile.BLKTYPE)],
    "pipe": [entry("pipe", tarfile.FIFOTYPE)],
    "twice": [entry("a", data=b"1"), entry("a", data=b"2")],
    "twice by another name": [entry("a", data=b"1"), entry("./a", data=b"2")],
    "file then folder": [entry("a", data=b"1"), entry("a", tarfile.DIRTYPE)],
    "link then folder": [entry("a", tarfile.SYMTYPE, "b"), entry("a", tarfile.DIRTYPE)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members_are_refused_in_memory_and_on_disk(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="refused"):
        list(untar.members(tar_of(*HOSTILE[name]), "evil.tar"))
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(SourceError, match="refused"):
        untar.extract(tar_of(*HOSTILE[name]), root, "evil.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    with pytest.raises(SourceError, match="goes through a link"):
        untar.extract(tar_of(entry("a", tarfile.SYMTYPE, f"{outside}"), entry("a/file", data=b"x")), root, "evil.tar")
    (root / "b").symlink_to(outside)
    with pytest.raises(SourceError, match="goes through a link"):
        untar.extract(tar_of(entry("b/file", data=b"x")), root, "layer 2")
    assert list(outside.iterdir()) == []


def test_an_archive_that_grows_too_large_is_refused() -> None:
    with pytest.raises(SourceError, match="more than 1000 bytes"):
        list(untar.members(tar_of(entry("a", data=bytes(600)), entry("b", data=bytes(600))), "bomb.tar", limit=1000))


@pytest.mark.parametrize("data", [b"", b"no tar at all", bytes(100)])
def test_what_is_no_tar_is_an_error_with_its_name(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"odd\.tar"):
        list(untar.members(io.BytesIO(data), "odd.tar"))


def test_a_cut_tar_is_an_error() -> None:
    whole = tar_of(entry("a", data=bytes(5000))).getvalue()
    with pytest.raises(SourceError):
        list(untar.members(io.BytesIO(whole[:2000]), "cut.tar"))


def test_set_user_id_is_dropped_and_hard_links_become_copies() -> None:
    info, data = entry("su", data=b"root")
    info.mode = 0o4755
    first, second = untar.members(tar_of((info, data), entry("also", tarfile.LNKTYPE, "su")), "a.tar")
    assert first == Member("su", b"root", 0o755)
    assert second.content == b"root"


def test_a_tar_comes_back_as_it_was_written() -> None:
    stream = io.BytesIO()
    write_tar(stream, with_folders(MEMBERS), 7)
    stream.seek(0)
    assert list(untar.members(stream, "round.tar")) == with_folders(MEMBERS)


def test_the_same_members_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"text\n")
    from_disk = (*MEMBERS[:1], Member("a.txt", tmp_path / "source"), *MEMBERS[2:])
    tars, zips = [], []
    for number, members in enumerate((MEMBERS, from_disk)):
        stream = io.BytesIO()
        with gzip_stream(stream) as packed:
            write_tar(cast("IO[bytes]", packed), with_folders(members), ZIP_EPOCH)
        tars.append(stream.getvalue())
        write_zip(tmp_path / f"{number}.zip", with_folders(members), ZIP_EPOCH)
        zips.append((tmp_path / f"{number}.zip").read_bytes())
    assert tars[0] == tars[1]
    assert zips[0] == zips[1]


def test_a_zip_keeps_modes_and_time(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", with_folders(MEMBERS), 1_700_000_000)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        modes = {info.filename: oct(info.external_attr >> 16) for info in archive.infolist()}
        assert modes == {"a.txt": "0o100644", "b/run": "0o100755"}
        assert {info.date_time for info in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_a_tree_has_exact_modes_and_one_time(tmp_path: Path) -> None:
    for name, umask in (("one", 0o022), ("two", 0o077)):
        (tmp_path / name).mkdir()
        before = os.umask(umask)
        try:
            write_tree(tmp_path / name, MEMBERS, 1_000_000_000)
        finally:
            os.umask(before)
    assert tree_sha256(tmp_path / "one") == tree_sha256(tmp_path / "two")
    assert (tmp_path / "two" / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert {path.lstat().st_mtime for path in tmp_path.glob("*/**/*")} == {1_000_000_000.0}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a.txt").write_bytes(b"Text\n"),
        lambda root: (root / "a.txt").chmod(0o755),
        lambda root: (root / "a.txt").rename(root / "c.txt"),
        lambda root: (root / "new").mkdir(),
        lambda root: (root / "a.txt").unlink() or (root / "a.txt").symlink_to("b/run"),
    ],
)
def test_every_change_changes_the_hash_of_a_tree(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    write_tree(tmp_path, MEMBERS, ZIP_EPOCH)
    before = tree_sha256(tmp_path)
    change(tmp_path)
    assert tree_sha256(tmp_path) != before


def test_a_copy_is_whole_and_its_own(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "one").write_bytes(data)
    copy_file(tmp_path / "one", tmp_path / "two")
    (tmp_path / "one").write_bytes(b"")
    assert (tmp_path / "two").read_bytes() == data


def test_source_date_epoch_is_read_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert source_date_epoch() == ZIP_EPOCH
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert source_date_epoch() == 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(TargetError, match="not a number of seconds"):
        source_date_epoch()


@pytest.mark.parametrize(
    "paths", [["/a"], ["a/../b"], ["a//b"], ["./a"], ["."], [""], ["a\0b"], ["a", "a"], ["a", "a/b"]]
)
def test_paths_that_are_not_plain_are_refused(paths: list[str]) -> None:
    with pytest.raises(TargetError):
        check_paths(paths)


def test_plain_paths_are_fine() -> None:
    check_paths(["a", "b/c", "b/d", "..a", "a.b"])


COPY = """
import hashlib, io, sys
from lsbuild.packing import archive, untar
stream = io.BytesIO()
with open(sys.argv[1], "rb") as source:
    archive.write_tar(stream, untar.members(source, "names.tar"), 0)
print(hashlib.sha256(stream.getvalue()).hexdigest())
"""


def test_names_are_utf_8_whatever_the_locale_is(tmp_path: Path) -> None:
    """tarfile's own default is the locale's encoding: a base had other bytes for whoever built it without UTF-8."""
    with (tmp_path / "names.tar").open("wb") as stream:
        write_tar(stream, [Member("Főtanúsítvány.crt", b"x")], 0, form=tarfile.GNU_FORMAT)  # as in packages
    said = set()
    for locale in ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C", "PYTHONUTF8": "1"}):
        words = [sys.executable, "-c", COPY, str(tmp_path / "names.tar")]
        done = subprocess.run(words, env={**os.environ, **locale}, capture_output=True, check=True)
        said.add(done.stdout)
    assert len(said) == 1
