"""Writes settings into ``lsbuild.txt`` on the boot partition of a card that was just flashed, and reads them back.

It uses mtools, so nothing is mounted. What is wrong with a setting is said before anything is written to the card.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from lsbuild.delivery import card_settings
from lsbuild.delivery.card_settings import FILE, Settings
from lsbuild.errors import TargetError, VerifyError
from lsbuild.packing import mbr


def settings(
    given: Iterable[str], *, hostname: str | None = None, ssh_keys: Iterable[Path] = (), wifi: str | None = None
) -> Settings:
    """The settings of ``NAME=VALUE`` texts and of the options that have a name of their own. Raises TargetError."""
    found: Settings = {}
    for each in given:
        name, sign, value = each.partition("=")
        if not sign:
            raise TargetError(f"{each!r} is no NAME=VALUE", where="--set")
        found.setdefault(name, []).append(value)
    if hostname is not None:
        found["hostname"] = [hostname]
    if wifi is not None:
        found["wifi_ssid"] = [wifi]
    for path in ssh_keys:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        if any("PRIVATE KEY" in line for line in lines):
            raise TargetError("is a private key, which stays here", where=str(path), hint=f"name {path}.pub")
        found.setdefault("ssh_key", []).extend(line for line in lines if not line.startswith("#"))
    return found


def require(settings: Settings) -> None:
    """Raise TargetError for a setting that the board would refuse, or when this machine cannot write any."""
    for name, values in settings.items():
        for value in values:
            if wrong := card_settings.fault(name, value):
                raise TargetError(f"the board would refuse it: {wrong}", where=f"{FILE}: {name}")
            if "\n" in value or "\r" in value or value != value.strip():
                raise TargetError("is not one line without blanks around it", where=f"{FILE}: {name}")
    if "wifi_password" in settings and "wifi_ssid" not in settings:
        raise TargetError("a password of a network needs its name", where=f"{FILE}: wifi_password")
    if shutil.which("mcopy") is None:
        raise TargetError(
            "settings are written to a card by mtools", hint="apt-get install mtools; or edit them by hand"
        )


def settle(card: Path, settings: Settings) -> None:
    """Have the settings on ``card``, a block device or a file. Raises VerifyError when they are not there in the end."""
    require(settings)
    with card.open("rb") as stream:
        (start, _), _ = mbr.partitions(stream.read(mbr.SECTOR))
    part = f"{card}@@{start * mbr.SECTOR}"
    try:
        before = _mtools("mtype", "-i", part, f"::{FILE}")
    except VerifyError as error:
        raise VerifyError(
            f"holds the image, but there is no {FILE} on its boot partition to set anything in: {error.what}",
            where=str(card),
            hint="settings belong to images that lsbuild made for target rpi",
        ) from error
    wanted = card_settings.changed(before, settings)
    with TemporaryDirectory(prefix="lsbuild-card-") as folder:
        path = Path(folder, FILE)
        path.write_text(wanted)
        _mtools("mcopy", "-o", "-i", part, str(path), f"::{FILE}")
    with card.open("rb+") as stream:
        os.fsync(stream.fileno())
    if _mtools("mtype", "-i", part, f"::{FILE}") != wanted:
        raise VerifyError(f"{FILE} is not on the card as it was written", where=str(card))


def _mtools(*words: str) -> str:
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    if done.returncode:
        raise VerifyError(f"{words[0]} failed: {done.stderr.strip()[-200:]}")
    return done.stdout
