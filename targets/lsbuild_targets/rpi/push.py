"""Installs the .deb of an artifact on a board over ssh: looks whether it fits, copies it, has apt install it, waits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from lsbuild.api import Installed, TargetError
from lsbuild.delivery.remote import Remote
from lsbuild_targets.rpi import record as records
from lsbuild_targets.rpi.record import Record

_LOOK = (
    'echo "arch=$(uname -m)"; echo "user=$(id -u)"; echo "python=$(command -v "python$1" || true)"; '
    'echo "apt=$(command -v apt-get || true)"; echo "folder=$(mktemp -d)"'
)


def push(artifact: Path, remote: Remote, say: Callable[[str], None]) -> Installed:
    """Install it and see that its unit is active. Raises TargetError with what the board said; the copy is removed."""
    record = _record(artifact)
    package = artifact / record.files["deb"]
    found = _look(remote, record)
    folder = found["folder"]
    try:
        _require(remote, record, found)
        say(f"{remote.host}: copying {package.name}, {package.stat().st_size / 1e6:.1f} MB")
        there = f"{folder}/{package.name}"
        remote.copy(package, there)
        _compare(remote, there, record.hashes["deb"])
        say(f"{remote.host}: installing")
        # Its folder is this user's alone, and apt reads packages as a user of its own.
        remote.run(("chmod", "755", folder))
        remote.run((*_as_root(found), *_INSTALL, there))
        remote.run((*_as_root(found), "systemctl", "is-active", "--quiet", record.unit))
    except TargetError as error:
        raise _with_log(remote, record, error) from error
    finally:
        with contextlib.suppress(TargetError):  # what went wrong before is what counts
            remote.run(("rm", "-rf", folder))
    return Installed(record.unit, package.name)


_INSTALL = (
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "apt-get",
    "install",
    "--yes",
    "--quiet",
    "--reinstall",
    "--allow-downgrades",
    "-o",
    "Dpkg::Options::=--force-confold",
)


def _record(artifact: Path) -> Record:
    record = records.read(artifact)
    if record is None or "deb" not in record.files:
        raise TargetError(
            "has no .deb, which is what is installed over ssh", where=str(artifact), hint="set targets.rpi.package: deb"
        )
    return record


def _look(remote: Remote, record: Record) -> dict[str, str]:
    said = remote.run(("sh", "-c", _LOOK, "sh", record.python))
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def _require(remote: Remote, record: Record, found: dict[str, str]) -> None:
    if found["arch"] != "aarch64":
        raise TargetError(
            f"this machine is {found['arch']}, the package is for aarch64",
            where=remote.host,
            hint="a board of 64 bits needs a system of 64 bits: install the 64-bit Raspberry Pi OS",
        )
    if not found["apt"]:
        raise TargetError("has no apt-get", where=remote.host, hint="unpack the tar into /opt instead: docs/targets.md")
    if not found["python"]:
        raise TargetError(
            f"has no Python {record.python}, which the package was built for",
            where=remote.host,
            hint="set targets.rpi.base.suite to the Debian release that the board runs",
        )


def _compare(remote: Remote, path: str, sha256: str) -> None:
    there = remote.run(("sha256sum", path)).split()[0]
    if there != sha256:
        raise TargetError(
            "the copy differs from the package", where=remote.host, hint="is its disk full? push it again"
        )


def _as_root(found: dict[str, str]) -> tuple[str, ...]:
    return () if found["user"] == "0" else ("sudo", "-n")


def _with_log(remote: Remote, record: Record, error: TargetError) -> TargetError:
    """The same error with the unit's last words, when it was the unit that failed."""
    if "is-active" not in error.what:
        return error
    log = remote.run(("sh", "-c", 'journalctl --no-pager -o cat -n 8 -u "$1" || true', "sh", record.unit))
    return TargetError(f"{record.unit} was installed and does not run", where=remote.host, hint=log.strip()[-800:])
