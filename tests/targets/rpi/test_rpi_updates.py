"""What a package for a Pi brings when its board takes updates, and what of the artifact goes into one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from lsbuild.api import TargetError
from lsbuild.delivery import signing
from lsbuild.delivery import update as updating
from lsbuild.packing import deb
from lsbuild_targets.rpi.options import Options
from lsbuild_targets.rpi.target import TARGET

MakePi = Callable[..., Path]
KEY = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
UPDATES = {"keys": KEY, "url": "https://updates.example/small"}


def files(artifact: Path) -> dict[str, bytes]:
    """What the .deb installs."""
    (path,) = artifact.glob("*.deb")
    return {member.path: member.content for member in deb.members(path) if isinstance(member.content, bytes)}


def test_a_package_without_updates_brings_no_updater(make_pi: MakePi, tmp_path: Path) -> None:
    found = files(make_pi(tmp_path / "out"))
    assert not [path for path in found if "update" in path and not path.startswith("usr/lib/lsbuild-small/")]
    assert b"ExecStartPre" not in found["usr/lib/systemd/system/lsbuild-small.service"]


def test_a_package_with_updates_brings_program_settings_and_units(make_pi: MakePi, tmp_path: Path) -> None:
    found = files(make_pi(tmp_path / "out", updates=UPDATES))
    assert json.loads(found["etc/lsbuild/lsbuild-small.updates.json"]) == {"keys": [KEY], "url": UPDATES["url"]}
    unit = found["usr/lib/systemd/system/lsbuild-small.service"].decode()
    assert "ExecStartPre=+/usr/bin/lsbuild-small-update begin\n" in unit
    start = "start.py /usr/lib/lsbuild-small /var/lib/lsbuild-updates/lsbuild-small --host ${LSBUILD_HOST}"
    assert start in unit
    assert "DynamicUser=yes" in unit
    program = found["usr/bin/lsbuild-small-update"].decode()
    assert "--settings /etc/lsbuild/lsbuild-small.updates.json --environment /etc/lsbuild/lsbuild-small.env" in program
    update = found["usr/lib/systemd/system/lsbuild-small-update.service"].decode()
    assert "ExecStart=/usr/bin/lsbuild-small-update apply\n" in update
    assert "StateDirectory=lsbuild-updates/lsbuild-small\n" in update
    assert "usr/lib/systemd/system/lsbuild-small-update.timer" in found


def test_systemd_knows_every_line_of_the_units(make_pi: MakePi, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; apt-get install systemd")
    (path,) = make_pi(tmp_path / "out", updates=UPDATES).glob("*.deb")
    (tmp_path / "root").mkdir()
    deb.extract(path, tmp_path / "root")
    for name in ("", "-update"):
        unit = tmp_path / f"root/usr/lib/systemd/system/lsbuild-small{name}.service"
        words = ["systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager", unit]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if "unrecognized option" in done.stderr:
            pytest.skip("this systemd-analyze does not judge files")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Unknown" not in done.stderr, done.stderr
        assert "Failed to parse" not in done.stderr, done.stderr


def test_the_tar_runs_its_updater_from_where_it_lies(make_pi: MakePi, tmp_path: Path) -> None:
    artifact = make_pi(tmp_path / "out", package="tar", updates=UPDATES)
    (path,) = artifact.glob("*.tar.gz")
    shutil.unpack_archive(path, tmp_path / "opt", filter="tar")
    folder = tmp_path / "opt/lsbuild-small"
    assert "ExecStartPre=+/opt/lsbuild-small/update begin" in (folder / "lsbuild-small.service").read_text()
    assert "--settings /opt/lsbuild-small/updates.json" in (folder / "update").read_text()
    assert (folder / "update").stat().st_mode & 0o111
    assert json.loads((folder / "updates.json").read_text())["keys"] == [KEY]


@pytest.mark.parametrize("package", ["deb", "tar", ["deb", "tar"]])
def test_an_update_holds_the_bundle_and_nothing_of_the_package(
    make_pi: MakePi, tmp_path: Path, package: object
) -> None:
    artifact = make_pi(tmp_path / "out", package=package, updates=UPDATES)
    key = signing.new(tmp_path / "key", "")
    made = updating.make(updating.Order(artifact, 1), key, tmp_path / "1.lsu", lambda _line: None)
    manifest = json.loads((artifact / "manifest.json").read_bytes())
    assert {file.path for file in made.update.files} == {"manifest.json", *(file["path"] for file in manifest["files"])}
    assert made.update.platform == "linux-aarch64-cp313"


@pytest.mark.parametrize(
    ("updates", "why"),
    [
        ({}, "Field required"),
        ({"keys": []}, "at least 1"),
        ({"keys": "ssh-ed25519 AAAA"}, "begins with 'ed25519:'"),
        ({"keys": KEY, "url": "ftp://x"}, "pattern"),
        ({"keys": KEY, "channel": "beta"}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_are_told(updates: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Options.model_validate({"updates": updates})


def test_what_has_no_package_makes_no_update(make_pi: MakePi, tmp_path: Path) -> None:
    artifact = make_pi(tmp_path / "out")
    record = json.loads((artifact / "artifact.json").read_bytes())
    (artifact / "artifact.json").write_text(json.dumps({**record, "files": {}}))
    with pytest.raises(TargetError, match=r"neither a \.deb nor a tar"):
        TARGET.slots(artifact, tmp_path)
