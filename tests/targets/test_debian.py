"""Debian packages as a source: choosing, trusting and fetching them, from a little archive on this machine."""

from __future__ import annotations

import hashlib
import lzma
import shutil
from pathlib import Path

import pytest

from debian_mirror import Archive
from lsbuild.api import SourceFile
from lsbuild.errors import OfflineError, SourceError
from lsbuild.sources import debian
from lsbuild.sources.base import FetchContext
from lsbuild.sources.debian_archive import KEYRINGS, Mirrors, mirrors, release
from lsbuild.sources.debian_index import Index, closure


def stanza(name: str, version: str = "1", depends: str = "", provides: str = "", pre: str = "") -> str:
    fields = {"Package": name, "Version": version, "Provides": provides, "Pre-Depends": pre, "Depends": depends}
    fields |= {"Filename": f"pool/main/{name}_{version}.deb", "Size": "10", "SHA256": "AB" * 32}
    return "".join(f"{key}: {value}\n" for key, value in fields.items() if value)


def chosen(*stanzas: str, wanted: tuple[str, ...] = ("app",), without: frozenset[str] = frozenset()) -> list[str]:
    return [f"{package.name}={package.version}" for package in closure(Index(["\n".join(stanzas)]), wanted, without)]


def test_dependencies_are_followed_to_the_end() -> None:
    names = chosen(
        stanza("app", depends="a (>= 1), b"), stanza("a", pre="c"), stanza("b"), stanza("c", depends="app"), stanza("d")
    )
    assert names == ["a=1", "app=1", "b=1", "c=1"]


def test_the_first_alternative_that_exists_is_taken() -> None:
    assert chosen(stanza("app", depends="gone | b | a"), stanza("a"), stanza("b")) == ["app=1", "b=1"]


def test_an_alternative_that_is_chosen_already_is_enough() -> None:
    assert chosen(stanza("app", depends="a, b | a"), stanza("a"), stanza("b")) == ["a=1", "app=1"]


def test_a_virtual_package_has_a_provider() -> None:
    assert chosen(stanza("app", depends="mta"), stanza("z", provides="x, mta (= 2)"), stanza("p", provides="mta")) == [
        "app=1",
        "p=1",
    ]


def test_architecture_qualifiers_are_understood() -> None:
    assert chosen(stanza("app", depends="a:any"), stanza("a")) == ["a=1", "app=1"]


def test_what_is_left_out_takes_its_own_dependencies_along() -> None:
    names = chosen(
        stanza("app", depends="shell, a"),
        stanza("shell", depends="readline"),
        stanza("readline"),
        stanza("a"),
        without=frozenset({"shell"}),
    )
    assert names == ["a=1", "app=1"]


def test_the_security_update_wins_by_debian_s_own_order() -> None:
    main, security = stanza("app", "1.0-1+deb13u9"), stanza("app", "1.0-1+deb13u10")
    assert [package.version for package in closure(Index([main, security]), ("app",), frozenset())] == [
        "1.0-1+deb13u10"
    ]
    assert [package.version for package in closure(Index([security, main]), ("app",), frozenset())] == [
        "1.0-1+deb13u10"
    ]


def test_an_unknown_package_is_named_with_who_needs_it() -> None:
    with pytest.raises(SourceError, match="'gone', which app needs"):
        chosen(stanza("app", depends="gone"))


def test_a_stanza_without_a_hash_is_refused() -> None:
    with pytest.raises(SourceError, match="SHA256"):
        chosen("Package: app\nVersion: 1\nFilename: pool/app.deb\nSize: 1\n")


def test_the_uri_is_read() -> None:
    request = debian.parse(
        "trixie/arm64?libc6,libstdc++6,-perl-base#mirror=http://m.example/debian/&security=http://s.example/sec"
    )
    assert (request.suite, request.arch) == ("trixie", "arm64")
    assert request.wanted == ("libc6", "libstdc++6")
    assert request.without == {"perl-base"}
    assert request.mirrors == Mirrors("http://m.example/debian", "http://s.example/sec")
    assert debian.parse("trixie/amd64?libc6").mirrors is None


@pytest.mark.parametrize(
    "rest", ["", "trixie", "trixie/amd64", "trixie/amd64?", "trixie/i386?a", "../x/amd64?a", "trixie/amd64?A B"]
)
def test_a_uri_that_is_wrong_is_refused(rest: str) -> None:
    with pytest.raises(SourceError, match="SUITE/ARCH"):
        debian.parse(rest)


def test_mirrors_come_from_either_form_of_apt_s_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "other.list").write_text("deb [arch=amd64 signed-by=/k.gpg] https://packages.example/apt stable main\n")
    (folder / "debian.sources").write_text(
        "Types: deb\n# a comment\nURIs: http://a.example/debian/\nSuites: bookworm\nComponents: main\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://off.example/debian-security\nSuites: x\n\n"
        "Types: deb deb-src\nURIs: http://a.example/debian-security\nSuites: bookworm-security\n"
    )
    assert mirrors(tmp_path) == Mirrors("http://a.example/debian", "http://a.example/debian-security")
    (tmp_path / "sources.list").write_text(
        "# deb http://no.example/debian x main\ndeb [trusted=no] http://b.example/debian x main\n"
    )
    assert mirrors(tmp_path).main == "http://b.example/debian"


def test_a_mirror_list_is_followed(tmp_path: Path) -> None:
    (tmp_path / "mirrors.list").write_text("http://c.example/debian\tpriority:1\n")
    (tmp_path / "sources.list").write_text(f"deb mirror+file:{tmp_path}/mirrors.list x main\n")
    assert mirrors(tmp_path).main == "http://c.example/debian"


def test_a_machine_without_debian_is_told_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        mirrors(tmp_path)
    assert "base: {mirror:" in caught.value.hint


def test_a_pool_path_leads_to_its_archive() -> None:
    found = Mirrors("http://m", "http://s")
    assert found.of("pool/main/a.deb") == "http://m/pool/main/a.deb"
    assert found.of("pool/updates/main/a.deb") == "http://s/pool/updates/main/a.deb"


def context(cache: Path, *, offline: bool = False, pinned: tuple[SourceFile, ...] | None = None) -> FetchContext:
    return FetchContext("debian:test", cache, cache, offline, pinned, "", lambda *_: None)


def pins(archive: Archive) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(path, Path("absent"), sha256, 0) for path, sha256 in archive.hashes.items())


def test_packages_are_resolved_fetched_and_named_by_pool_path(archive: Archive, mirror: str, tmp_path: Path) -> None:
    source = debian.fetch(f"trixie/amd64?app#mirror={mirror}", context(tmp_path / "cache"))
    assert {file.path: file.sha256 for file in source.files} == archive.hashes


def test_with_a_lock_no_index_is_read(archive: Archive, mirror: str, tmp_path: Path) -> None:
    shutil.rmtree(archive.root / "dists")
    source = debian.fetch(f"trixie/amd64?app#mirror={mirror}", context(tmp_path / "cache", pinned=pins(archive)))
    assert len(source.files) == 2


def test_offline_answers_from_the_cache_or_says_what_is_missing(archive: Archive, mirror: str, tmp_path: Path) -> None:
    uri = f"trixie/amd64?app#mirror={mirror}"
    with pytest.raises(OfflineError, match="package index"):
        debian.fetch(uri, context(tmp_path / "cache", offline=True))
    with pytest.raises(OfflineError, match=r"app_1\.0_amd64\.deb"):
        debian.fetch(uri, context(tmp_path / "cache", offline=True, pinned=pins(archive)))
    debian.fetch(uri, context(tmp_path / "cache"))
    assert len(debian.fetch(uri, context(tmp_path / "cache", offline=True, pinned=pins(archive))).files) == 2


def test_a_changed_package_is_refused(archive: Archive, mirror: str, tmp_path: Path) -> None:
    (archive.root / "pool/main/lib_1.0_amd64.deb").write_bytes(b"something else")
    with pytest.raises(SourceError, match="sha256"):
        debian.fetch(f"trixie/amd64?app#mirror={mirror}", context(tmp_path / "cache"))


def test_a_changed_index_is_refused(archive: Archive, mirror: str, tmp_path: Path) -> None:
    (victim,) = archive.root.glob("dists/trixie/main/binary-amd64/by-hash/SHA256/*")
    victim.write_bytes(lzma.compress(b"Package: app\n"))
    with pytest.raises(SourceError, match="sha256"):
        debian.fetch(f"trixie/amd64?app#mirror={mirror}", context(tmp_path / "cache"))


def test_a_release_that_was_changed_after_signing_is_refused(archive: Archive, mirror: str, tmp_path: Path) -> None:
    inrelease = archive.root / "dists/trixie/InRelease"
    inrelease.write_text(inrelease.read_text().replace("Origin: Test", "Origin: Evil"))
    with pytest.raises(SourceError, match="no good signature"):
        debian.fetch(f"trixie/amd64?app#mirror={mirror}", context(tmp_path / "cache"))


def test_an_unsigned_release_is_refused(archive: Archive, mirror: str, tmp_path: Path) -> None:
    shutil.copyfile(archive.root / "Release", archive.root / "dists/trixie/InRelease")
    with pytest.raises(SourceError, match="no good signature"):
        debian.fetch(f"trixie/amd64?app#mirror={mirror}", context(tmp_path / "cache"))


def test_text_around_the_signed_part_is_not_read(archive: Archive, mirror: str, tmp_path: Path) -> None:
    inrelease = archive.root / "dists/trixie/InRelease"
    evil = "Codename: trixie\nSHA256:\n " + "0" * 64 + " 1 main/binary-amd64/Packages.xz\n\n"
    signed = inrelease.read_bytes()
    for text in (evil.encode() + signed, signed + evil.encode()):
        try:
            found = release(text, "trixie", (archive.keyring,))
        except SourceError:
            continue
        assert found["main/binary-amd64/Packages.xz"] == hashlib.sha256(archive.index).hexdigest()
    assert mirror
    assert tmp_path


def test_a_signature_of_a_stranger_is_refused(archive: Archive) -> None:
    data = (archive.root / "dists/trixie/InRelease").read_bytes()
    if not any(path.is_file() for path in KEYRINGS):
        pytest.skip("debian-archive-keyring is not installed")
    with pytest.raises(SourceError, match="no good signature"):
        release(data, "trixie", KEYRINGS)


def test_another_suite_s_release_is_refused(archive: Archive, mirror: str, tmp_path: Path) -> None:
    archive.publish("Codename: bookworm\nSuite: oldstable")
    with pytest.raises(SourceError, match="is of bookworm / oldstable, not of trixie"):
        debian.fetch(f"trixie/amd64?app#mirror={mirror}", context(tmp_path / "cache"))


def test_an_expired_release_is_refused(archive: Archive, mirror: str, tmp_path: Path) -> None:
    archive.publish("Codename: trixie\nValid-Until: Sat, 28 Nov 2020 00:53:03 UTC")
    with pytest.raises(SourceError, match="valid until"):
        debian.fetch(f"trixie/amd64?app#mirror={mirror}", context(tmp_path / "cache"))


def test_a_missing_file_says_what_to_do(archive: Archive, mirror: str, tmp_path: Path) -> None:
    (archive.root / "pool/main/lib_1.0_amd64.deb").unlink()
    with pytest.raises(SourceError) as caught:
        debian.fetch(f"trixie/amd64?app#mirror={mirror}", context(tmp_path / "cache"))
    assert "lib_1.0_amd64.deb" in caught.value.what
    assert "snapshot mirror" in caught.value.hint


def test_without_gpgv_the_index_is_not_trusted(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (archive.root / "dists/trixie/InRelease").read_bytes()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SourceError, match="gpgv is not installed"):
        release(data, "trixie", (archive.keyring,))
    monkeypatch.undo()
    with pytest.raises(SourceError, match="debian-archive-keyring is not installed"):
        release(data, "trixie", (Path("/nonexistent"),))
