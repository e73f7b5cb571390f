"""The programs of this machine that proofs and deliveries use: what each is for, and how to get it; it installs none.

``verify`` says with it what was skipped, ``doctor`` what is missing, so both give the same way out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lsbuild.disk import folder_from

_VERSION = re.compile(r"(\d+)(?:\.\d+)+|\bsystemd (\d+)")
_SECONDS = 20.0
_OLDEST_QEMU = 10
"""QEMU 7.2 crashes when onnxruntime is imported."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program. ``what`` completes "it …", ``get`` is the command that installs it."""

    name: str
    what: str
    get: str
    commands: tuple[str, ...] = ()
    """What it may be called; default: its name."""
    oldest: int = 0
    """The oldest major version that works; 0 for any."""
    finder: Callable[[], str] | None = None
    """Where it is looked for, when that is not PATH alone; "" when it is nowhere."""

    def path(self) -> str:
        """Where it is, "" when it is not here. Its version is not looked at."""
        if self.finder is not None:
            return self.finder()
        return next((found for name in self.commands or (self.name,) if (found := on_path(name))), "")

    def fault(self) -> str:
        """Why it cannot be used here and how that is mended, in one sentence; "" when it can."""
        path = self.path()
        if not path:
            return f"no {self.name} here, which {self.what}; {self.get}"
        if self.oldest and (found := major(path)) < self.oldest:
            said = f"{self.name} {found}" if found else f"a {self.name} that does not tell its version"
            return f"{said} here ({path}), and {self.oldest} or newer is needed; {self.get}"
        return ""


def on_path(name: str) -> str:
    """Where a program of that name is, also in the folders that only root has on PATH; "" when it is nowhere."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or ""


def fetched(name: str) -> Path:
    """Where a program lies that ``lsbuild doctor --fetch`` has brought, in the cache; it may not be there."""
    return folder_from(os.environ) / "tools" / name


def _qemu() -> str:
    """The first one that is new enough, else the first."""
    places = [on_path(name) for name in ("qemu-aarch64", "qemu-aarch64-static")]
    brought = fetched("qemu-aarch64")
    known = [*filter(None, places), *([str(brought)] if brought.is_file() else [])]
    return next((path for path in known if major(path) >= _OLDEST_QEMU), known[0] if known else "")


def major(path: str) -> int:
    """The major version that the program at ``path`` tells with --version; 0 when it tells none."""
    env = {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "HOME": "/nonexistent"}
    try:
        done = subprocess.run(  # noqa: S603 - found on PATH
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
            env=env,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = _VERSION.search(done.stdout)
    return int(match[1] or match[2]) if match else 0


QEMU_USER = Tool(
    "qemu-aarch64",
    "runs code for arm64 on this machine",
    "apt-get install qemu-user on Debian 13 or newer, or lsbuild doctor --fetch on any x86_64 machine, which brings Debian's",
    oldest=_OLDEST_QEMU,
    finder=_qemu,
)
QEMU_SYSTEM = Tool(
    "qemu-system-aarch64", "boots a whole image of a card", "apt-get install --no-install-recommends qemu-system-arm"
)
PODMAN = Tool("podman", "runs images as containers", "apt-get install podman")
RUNC = Tool("runc", "starts the containers of podman", "apt-get install runc")
SKOPEO = Tool("skopeo", "copies images between registries, archives and folders", "apt-get install skopeo")
UNSHARE = Tool("unshare", "gives a booted image a /proc of its own", "apt-get install util-linux")
SYSTEMD_ANALYZE = Tool("systemd-analyze", "judges the sandbox of a unit", "apt-get install systemd")
SSH = Tool("ssh", "reaches the machine that `lsbuild push` installs on", "apt-get install openssh-client")
MKE2FS = Tool("mke2fs", "makes the root file system of a card", "apt-get install e2fsprogs")
MKFS_VFAT = Tool("mkfs.vfat", "makes the boot partition of a card", "apt-get install dosfstools")
MCOPY = Tool("mcopy", "puts files into the boot partition of a card", "apt-get install mtools")
SAM = Tool(
    "sam",
    "lints the templates of a function and brings AWS's emulator",
    "pip install aws-sam-cli in an environment of its own, and set LSBUILD_SAM to its `sam`",
    finder=lambda: os.environ.get("LSBUILD_SAM") or on_path("sam"),
)
ZSTD = Tool("zstd", "packs and unpacks images of cards and newer Debian packages", "apt-get install zstd")
FSCK_FAT = Tool("fsck.fat", "checks the boot partition of a card", "apt-get install dosfstools")
FAKEROOT = Tool("fakeroot", "makes files of a card belong to root", "apt-get install fakeroot")
DEBUGFS = Tool("debugfs", "reads the root file system of a card", "apt-get install e2fsprogs")
TERRAFORM = Tool("terraform", "validates and applies main.tf.json", "see developer.hashicorp.com/terraform/install")
GPGV = Tool("gpgv", "checks the signatures of a Debian archive", "apt-get install gpgv debian-archive-keyring")
