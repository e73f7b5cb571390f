"""Files of one Debian package as a source: what a path selects, and that lock and hashes hold."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from debian_mirror import Archive, MakeDeb
from lsbuild import sources
from lsbuild.api import Source
from lsbuild.errors import OfflineError, SourceError
from lsbuild.lock import Lock
from lsbuild.running.monitor import Silent
from lsbuild.sources.debian_files import select
from lsbuild.sources.globs import expand, translate

MANUAL = "pool/main/manual_2.0_all.deb"
FILES = {
    "usr/share/doc/manual/index.txt": b"start\n",
    "usr/share/doc/manual/src/json.rst.txt": b"json\n",
    "usr/share/doc/manual/src/csv.rst.txt": b"csv\n",
    "usr/share/doc/manual/src/deep/csv.rst.txt": b"deep\n",
    "usr/share/doc/manual/src/old.html": b"<p>\n",
}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("usr/share/doc/manual/index.txt", ["index.txt"]),
        ("usr/share/doc/manual/src/deep", ["csv.rst.txt"]),
        ("usr/share/doc/manual/src/*.rst.txt", ["csv.rst.txt", "json.rst.txt"]),
        ("usr/share/doc/manual/src/{csv,deep/csv}.rst.txt", ["csv.rst.txt", "deep/csv.rst.txt"]),
        ("usr/share/doc/manual/**/[cj]*.txt", ["src/csv.rst.txt", "src/deep/csv.rst.txt", "src/json.rst.txt"]),
        ("usr/share/doc/manual/s*", []),
    ],
)
def test_a_file_a_folder_and_globs(path: str, names: list[str]) -> None:
    assert list(select(FILES, path)) == names


def test_braces_stand_for_every_spelling() -> None:
    assert expand("a{b,c}d{e,f}") == ("abde", "abdf", "acde", "acdf")
    assert expand("plain") == ("plain",)
    assert not translate("*.txt").fullmatch("deep/a.txt")


@pytest.fixture
def manual(archive: Archive, mirror: str, make_deb: MakeDeb) -> str:
    """The archive with one package for all architectures; the URI of its text files."""
    deb = make_deb("manual", *((tarfile.TarInfo(f"./{name}"), data) for name, data in FILES.items()))
    text = lzma.decompress(archive.index).decode()
    (archive.root / MANUAL).write_bytes(deb.read_bytes())
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    text += f"\nPackage: manual\nVersion: 2.0\nFilename: {MANUAL}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
    archive.index = lzma.compress(text.encode())
    archive.publish("Codename: trixie")
    return f"deb://trixie/manual/usr/share/doc/manual/src/*.txt#mirror={mirror}"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield


def resolve(uri: str, cache: Path, *, lock: Lock | None = None, offline: bool = False) -> Source:
    found = sources.resolve(
        [uri], root=cache, lock=lock or Lock(), cache=cache, offline=offline, locked=False, monitor=Silent()
    )
    return found[uri]


def test_the_files_are_taken_and_the_lock_names_package_and_files(manual: str, tmp_path: Path) -> None:
    source = resolve(manual, tmp_path / "cache")
    assert {file.path: file.location.read_bytes() for file in source.files} == {
        "csv.rst.txt": b"csv\n",
        "json.rst.txt": b"json\n",
    }
    assert source.revision.startswith(f"{MANUAL} sha256:")
    lock = Lock().merged({manual: source})
    assert resolve(manual, tmp_path / "cache", lock=lock, offline=True) == source
    with pytest.raises(OfflineError, match="manual"):
        resolve(manual, tmp_path / "empty", lock=lock, offline=True)
    with pytest.raises(OfflineError, match="package index"):
        resolve(manual, tmp_path / "empty", offline=True)


def test_a_lock_is_followed_without_an_index_and_a_changed_package_is_refused(
    manual: str, archive: Archive, tmp_path: Path
) -> None:
    source = resolve(manual, tmp_path / "one")
    lock = Lock().merged({manual: source})
    for path in archive.root.glob("dists/trixie/**/*"):
        path.unlink(missing_ok=True) if path.is_file() else None
    assert resolve(manual, tmp_path / "two", lock=lock).revision == source.revision
    (archive.root / MANUAL).write_bytes(b"something else")
    with pytest.raises(SourceError, match="sha256"):
        resolve(manual, tmp_path / "three", lock=lock)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("/manual/usr", "/manual/srv"), "no file of manual_2.0_all.deb matches"),
        (("/manual/usr", "/manuel/usr"), "trixie has no package 'manuel'"),
        (("/manual/usr", "/app/usr"), "built for each architecture"),
        (("/manual/usr", "/manual//usr"), "expected a suite"),
        (("trixie/manual", "Trixie"), "expected a suite"),
    ],
)
def test_a_uri_that_leads_nowhere_says_why(manual: str, tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        resolve(manual.replace(*change), tmp_path / "cache")
