"""Sources: local files, built-in data, the lock, --offline and --locked; nothing here leaves the machine."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from lsbuild import lock as locks
from lsbuild import sources
from lsbuild.api import Source
from lsbuild.disk import Digest
from lsbuild.errors import LockError, OfflineError, SourceError
from lsbuild.lock import Lock
from lsbuild.running.monitor import Silent
from lsbuild.sources import hashes
from lsbuild.sources.base import FetchContext


def resolve(root: Path, *uris: str, **rest: Any) -> dict[str, Source]:
    given: dict[str, Any] = {"lock": Lock(), "cache": root / ".cache", "offline": False, "locked": False, **rest}
    return sources.resolve(uris, root=root, monitor=Silent(), **given)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in (
        "docs/a.md",
        "docs/b.txt",
        "docs/deep/er/c.md",
        "docs/.hidden/d.md",
        "docs/.e.md",
        "models/m/config.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def names(found: dict[str, Source]) -> list[list[str]]:
    return [[file.path for file in source.files] for source in found.values()]


def test_a_file_a_folder_and_globs(project: Path) -> None:
    found = resolve(project, "docs/a.md", "./models/m", "docs/**/*.md", "docs/*", "docs/?.[mx]d", "docs/[!a]*")
    assert names(found) == [
        ["a.md"],
        ["config.json"],
        ["docs/a.md", "docs/deep/er/c.md"],
        ["docs/a.md", "docs/b.txt"],
        ["docs/a.md"],
        ["docs/b.txt"],
    ]
    file = found["docs/a.md"].files[0]
    assert file.location == project / "docs" / "a.md"
    assert file.size == 9
    assert len(file.sha256) == 64


def test_the_same_uri_twice_is_one_source(project: Path) -> None:
    assert list(resolve(project, "docs/a.md", "docs/a.md")) == ["docs/a.md"]


def test_a_path_outside_of_the_project_is_the_users_choice(project: Path) -> None:
    (project / "spec").mkdir()
    assert names(resolve(project / "spec", "../docs/*.md")) == [["../docs/a.md"]]
    assert names(resolve(project / "spec", str(project / "models" / "m"))) == [["config.json"]]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("docs/c.md", r"docs/c\.md: no such file or folder[\s\S]*docs holds a\.md, b\.txt, deep"),
        ("nowhere/x/y", r"no such file or folder[\s\S]*holds docs, models"),
        ("docs/*.pdf", r"docs/\*\.pdf: no file matches"),
        ("void", "the folder holds no files"),
        ("ftp://x", "unknown scheme 'ftp'"),
        ("hff://o/n", "unknown scheme 'hff'. Did you mean 'hf'?"),
        ("builtin://tiny-agnet", "there is no 'tiny-agnet' in lsbuild"),
        ("pypi://name", "expected an exact version"),
        ("pypi://name>=1", "expected an exact version"),
        ("hf://o/n@main", "does not name a commit"),
        ("wheels:linux-sparc-cp311-glibc2.28?x", "expected wheels:linux-ARCH"),
    ],
)
def test_what_cannot_be_had_is_told_with_the_value_of_the_spec(project: Path, uri: str, message: str) -> None:
    (project / "void").mkdir()
    with pytest.raises(SourceError, match=message) as caught:
        resolve(project, uri, offline=True)
    assert uri in str(caught.value)


def test_links_are_followed_within_the_project_only(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (project / "docs" / "in.md").symlink_to(project / "models" / "m" / "config.json")
    assert names(resolve(project, "docs/*.md")) == [["docs/a.md", "docs/in.md"]]
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.md"
    elsewhere.write_text("secret")
    (project / "docs" / "out.md").symlink_to(elsewhere)
    for uri in ("docs/*.md", "docs", "docs/out.md"):
        with pytest.raises(SourceError, match=r"out\.md is a symbolic link to .*secret\.md, outside of"):
            resolve(project, uri)
    (project / "docs" / "out.md").unlink()
    (project / "models" / "linked").symlink_to(elsewhere.parent)
    (elsewhere.parent / "below").mkdir()
    (elsewhere.parent / "below" / "x.md").write_text("secret")
    for uri in ("models/linked/*.md", "models/linked/below/*.md", "models/linked/below/x.md", "models/linked"):
        with pytest.raises(SourceError, match="is a symbolic link to"):
            resolve(project, uri)


def test_circles_and_dangling_links_are_errors(project: Path) -> None:
    (project / "docs" / "loop").symlink_to(project / "docs")
    with pytest.raises(SourceError, match="a symbolic link to a folder that contains it"):
        resolve(project, "docs/**/*.md")
    (project / "docs" / "loop").unlink()
    (project / "docs" / "gone").symlink_to(project / "nothing")
    with pytest.raises(SourceError, match="a symbolic link to nothing"):
        resolve(project, "docs")


def test_an_unchanged_file_is_not_read_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = project / "docs" / "a.md"
    long_ago = time.time() - 100
    os.utime(place, (long_ago, long_ago))
    monkeypatch.setattr(hashes, "_SETTLED_NS", -1)
    first = resolve(project, "docs/a.md")

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("hashed again")

    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", refuse)
        assert resolve(project, "docs/a.md") == first
    place.write_text("DOCS/A.MD")
    os.utime(place, (long_ago, long_ago))
    assert resolve(project, "docs/a.md") != first, "the same size and time, another content"


def test_a_file_just_written_is_not_remembered(project: Path) -> None:
    first = resolve(project, "docs/a.md")
    status = (project / "docs" / "a.md").stat()
    (project / "docs" / "a.md").write_text("DOCS/A.MD")
    os.utime(project / "docs" / "a.md", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert resolve(project, "docs/a.md") != first


def test_the_lock_holds_every_file_and_is_written_once(project: Path) -> None:
    found = resolve(project, "docs/**/*.md", "models/m", str(project / "models" / "m"))
    lock = Lock().merged(found)
    path = project / "lsbuild.lock"
    assert locks.write(path, lock) is True
    before = path.stat()
    assert locks.write(path, lock) is False
    assert path.stat() == before
    assert locks.read(path) == lock
    assert str(project) not in path.read_text(), "no path of this machine"
    assert sorted(lock.sources) == ["docs/**/*.md", "models/m"]
    assert sorted(lock.sources["docs/**/*.md"].files) == ["docs/a.md", "docs/deep/er/c.md"]
    assert path.read_bytes() == locks.to_json(lock)
    assert len(locks.digest(lock)) == 64


def test_entries_of_other_platforms_stay_until_they_are_pruned(project: Path) -> None:
    lock = Lock().merged(resolve(project, "docs/a.md")).merged(resolve(project, "docs/b.txt"))
    assert sorted(lock.sources) == ["docs/a.md", "docs/b.txt"]
    assert list(lock.pruned(["docs/a.md"]).sources) == ["docs/a.md"]


def test_locked_lists_every_drifted_file(project: Path) -> None:
    uris = ("docs/**/*.md", "models/m")
    lock = Lock().merged(resolve(project, *uris))
    resolve(project, *uris, lock=lock, locked=True)
    (project / "docs" / "a.md").write_text("changed")
    (project / "docs" / "deep" / "er" / "c.md").unlink()
    (project / "docs" / "new.md").write_text("new")
    (project / "models" / "m" / "config.json").write_text("{}")
    with pytest.raises(LockError) as caught:
        resolve(project, *uris, "docs/b.txt", str(project / "docs" / "b.txt"), lock=lock, locked=True)
    lines = str(caught.value).splitlines()
    assert lines[0] == "6 differences from lsbuild.lock:"
    assert lines[1].startswith("  docs/**/*.md: docs/a.md changed (sha256 ")
    assert lines[2] == "  docs/**/*.md: docs/deep/er/c.md is missing"
    assert lines[3] == "  docs/**/*.md: docs/new.md is new"
    assert lines[4].startswith("  models/m: config.json changed")
    assert lines[5] == "  docs/b.txt: not in lsbuild.lock"
    assert lines[6].endswith("b.txt: a path outside the project cannot be locked; name it relative to the spec")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 1, "sources": {"a": {"files": {"b": 1}}}}', '{"schema": 9, "sources": {}}']
)
def test_a_lock_that_is_none_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lsbuild.lock"
    path.write_text(text)
    with pytest.raises(LockError, match=r"lsbuild\.lock"):
        locks.read(path)
    assert locks.read(tmp_path / "none") == Lock()


@pytest.mark.parametrize(
    "uri", ["pypi://some-model==1.0", f"hf://org/name@{'a' * 40}", "wheels:linux-x86_64-cp311-glibc2.28?msgspec"]
)
def test_offline_opens_no_socket_and_says_what_is_missing(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket or a process was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("subprocess.Popen", refuse)
    with pytest.raises(OfflineError, match="--offline forbids") as caught:
        resolve(tmp_path, uri, offline=True)
    assert caught.value.where == uri
    assert "without --offline" in caught.value.hint


def test_locked_fetches_nothing_that_is_not_in_the_lock(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    (project / "docs" / "a.md").write_text("changed")
    with pytest.raises(LockError) as caught:
        resolve(project, "docs/a.md", "pypi://some-model==1.0", locked=True)
    assert str(caught.value).splitlines()[1:3] == [
        "  docs/a.md: not in lsbuild.lock",
        "  pypi://some-model==1.0: not in lsbuild.lock",
    ]


def test_offline_answers_from_the_cache_by_the_locks_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "wheels:linux-x86_64-cp311-glibc2.28?msgspec"
    context = fetching(tmp_path, uri)
    (tmp_path / "x").write_bytes(b"wheel")
    blob = context.add(tmp_path / "x")
    entry = locks.Entry({"msgspec-1.0-py3-none-any.whl": Digest(blob.name, 5)})
    monkeypatch.setattr("subprocess.Popen", None)
    found = resolve(tmp_path, uri, lock=Lock({uri: entry}), offline=True, locked=True)
    assert found[uri].files[0].location == blob
    blob.unlink()
    with pytest.raises(OfflineError, match=r"msgspec-1\.0-py3-none-any\.whl is not in the cache"):
        resolve(tmp_path, uri, lock=Lock({uri: entry}), offline=True)


def fetching(root: Path, uri: str = "x") -> FetchContext:
    return FetchContext(uri, root, root / ".cache", True, None, "", lambda _done, _total, _label: None)


def test_blobs_are_checked_and_shown_as_trees(tmp_path: Path) -> None:
    context = fetching(tmp_path)
    (tmp_path / "x").write_bytes(b"12345")
    with pytest.raises(SourceError, match="sha256 is 5994471abb01112a…, expected 0000000000000000…"):
        context.add(tmp_path / "x", "0" * 64)
    assert not list((tmp_path / ".cache" / "blobs").iterdir()), "nothing is left of it"
    blob = context.add(tmp_path / "x", "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5")
    assert context.blob(blob.name) == blob
    assert context.blob("f" * 64) is None
    files = context.tree({"b/c.bin": blob.name, "a.bin": blob.name})
    assert [file.path for file in files] == ["a.bin", "b/c.bin"]
    assert files[1].location.read_bytes() == b"12345"
    assert files[1].location.name == "c.bin"
    assert context.tree({"b/c.bin": blob.name, "a.bin": blob.name}) == files


def test_a_tree_refuses_names_that_leave_it(tmp_path: Path) -> None:
    context = fetching(tmp_path)
    (tmp_path / "x").write_bytes(b"12345")
    blob = context.add(tmp_path / "x")
    for name in ("../x", "/x", "a/../../x"):
        with pytest.raises(SourceError, match="leaves its folder"):
            context.tree({name: blob.name})
