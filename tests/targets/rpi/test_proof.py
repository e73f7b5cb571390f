"""What verify says of a damaged artifact, and of a machine that cannot boot one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from lsbuild.api import Check, VerifyError
from lsbuild_targets.rpi.proof import _command
from lsbuild_targets.rpi.target import TARGET

MakePi = Callable[..., Path]


def ask(base_url: str) -> Iterator[Check]:
    raise AssertionError("there is nothing to ask")
    yield


def checks(found: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


@pytest.mark.parametrize("package", ["deb", "tar", ["deb", "tar"]])
def test_files_and_unit_are_checked_where_nothing_can_be_booted(
    make_pi: MakePi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: object
) -> None:
    out = make_pi(tmp_path / "out", package=package)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LSBUILD_CACHE", str(tmp_path / "cache"))
    found = checks(TARGET.verify(out, ask))
    assert all(check.ok for check in found.values()), found
    assert found["files"].detail.endswith("files match the manifest")
    assert "apt-get install qemu-user" in found["boot"].detail
    assert "apt-get install systemd" in found["unit"].detail
    assert found["not proved"].state == "unproved"
    assert {found["boot"].state, found["unit"].state} == {"skipped"}


def test_a_changed_package_is_told(make_pi: MakePi, tmp_path: Path) -> None:
    out = make_pi(tmp_path / "out")
    (path,) = out.glob("*.deb")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\n")
    found = checks(TARGET.verify(out, ask))
    assert not found["files"].ok
    assert "not what artifact.json says" in found["files"].detail


def test_packages_with_another_manifest_are_told(make_pi: MakePi, tmp_path: Path) -> None:
    out = make_pi(tmp_path / "out")
    (out / "manifest.json").write_bytes((out / "manifest.json").read_bytes().replace(b'"small"', b'"other"'))
    found = checks(TARGET.verify(out, ask))
    assert "another manifest" in found["files"].detail


def test_a_damaged_record_is_one_sentence(make_pi: MakePi, tmp_path: Path) -> None:
    out = make_pi(tmp_path / "out")
    (out / "artifact.json").write_text("{")
    with pytest.raises(VerifyError, match="is not readable"):
        TARGET.manifests(out)
    (out / "artifact.json").write_text(json.dumps({"target": "rpi", "unit": "x"}))
    with pytest.raises(VerifyError, match="not as it was written"):
        TARGET.manifests(out)


def test_the_command_of_a_unit_is_read_as_systemd_reads_it(tmp_path: Path) -> None:
    unit = tmp_path / "a.service"
    unit.write_text(
        "[Service]\nEnvironment=LSBUILD_HOST=0.0.0.0 LSBUILD_PORT=80 A=b\nExecStart=/p -c \"a 'b'\" --port ${LSBUILD_PORT}\n"
    )
    assert _command(unit) == (
        ("/p", "-c", "a 'b'", "--port", "0"),
        {"LSBUILD_HOST": "127.0.0.1", "LSBUILD_PORT": "0", "A": "b"},
    )
