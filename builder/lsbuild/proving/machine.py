"""What ``doctor`` looks at on the machine itself: its Python, its room, what its kernel allows; it changes nothing.

Every function gives findings and raises none: what cannot be found out is a finding too.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Literal

Verdict = Literal["ok", "note", "missing", "fault"]
"""``missing`` leaves proofs out, ``fault`` stops builds."""

_NEEDED_GB = 2.0
_CAPABILITIES = {"CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24}
"""Bits of capability(7)."""
_FILES = 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``remedy`` says what to do, "" where nothing needs to be done."""

    area: str
    name: str
    verdict: Verdict
    said: str
    remedy: str = ""


def python() -> Iterator[Finding]:
    """The interpreter, the parts of its library that may be left out of it, and what lsbuild depends on."""
    version = platform.python_version()
    right = sys.version_info >= (3, 11)
    yield Finding(
        "python",
        "Python",
        "ok" if right else "fault",
        f"{version} ({sys.executable})",
        "" if right else "use 3.11 or newer",
    )
    for name, what in (("ssl", "downloads"), ("zlib", "archives"), ("lzma", "Debian packages"), ("bz2", "archives")):
        yield _module(name, what)
    yield Finding("python", "sqlite", "ok", f"{sqlite3.sqlite_version}; stores use the one that apsw brings")
    yield _zstd()
    yield from _distributions()


def _module(name: str, what: str) -> Finding:
    try:
        found = import_module(name)
    except ImportError as error:
        return Finding(
            "python", name, "fault", f"not in this Python, and {what} need it: {error}", "use another Python"
        )
    return Finding("python", name, "ok", str(getattr(found, "OPENSSL_VERSION", f"for {what}")))


def _zstd() -> Finding:
    if sys.version_info >= (3, 14):
        return Finding("python", "zstd", "ok", "in this Python")
    if found := shutil.which("zstd"):
        return Finding("python", "zstd", "ok", found)
    said = "neither in this Python nor a program; images of cards and Ubuntu's packages are packed with it"
    return Finding("python", "zstd", "missing", said, "apt-get install zstd")


def _distributions() -> Iterator[Finding]:
    """Every distribution that lsbuild requires, in a version that fits."""
    from packaging.requirements import Requirement

    wrong, fits = [], 0
    for text in metadata.requires("lsbuild") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            fits += 1
        else:
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if wrong:
        yield Finding(
            "python", "packages", "fault", "; ".join(wrong), f"{sys.executable} -m pip install --upgrade lsbuild"
        )
    else:
        yield Finding("python", "packages", "ok", f"{fits} of {fits} that lsbuild requires")


def hardware() -> Iterator[Finding]:
    """Processor, memory and the C library."""
    system, arch = platform.system(), platform.machine()
    known = system == "Linux" and arch in ("x86_64", "aarch64")
    libc = " ".join(platform.libc_ver()) or "an unknown C library"
    yield Finding(
        "machine",
        "system",
        "ok" if known else "note",
        f"{system} on {arch}, {libc}",
        "" if known else "lsbuild is tested on Linux, x86_64 and aarch64",
    )
    cores = len(os.sched_getaffinity(0))
    memory = _memory()
    total, free = memory.get("MemTotal", 0.0), memory.get("MemAvailable", 0.0)
    little = free < _NEEDED_GB
    yield Finding(
        "machine",
        "cores and memory",
        "note" if little else "ok",
        f"{cores} cores, {total:.1f} GB, {free:.1f} of them free",
        "large models need more; fewer steps at a time need less: --jobs 1" if little else "",
    )


def _memory() -> dict[str, float]:
    """/proc/meminfo in GB."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return {}
    return {match[1]: int(match[2]) * 1024 / 1e9 for match in re.finditer(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}


def folders(cache: Path) -> Iterator[Finding]:
    """Where builds write: the cache and the folder for temporary files, whether they may, and the room there."""
    yield _folder("cache folder", cache, "set LSBUILD_CACHE to a folder that you may write, on a disk with room")
    yield _folder(
        "temporary folder", Path(tempfile.gettempdir()), "set TMPDIR to a folder that you may write, with room"
    )


def _folder(name: str, path: Path, remedy: str) -> Finding:
    standing = next(each for each in (path, *path.parents) if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=standing, prefix=".lsbuild-doctor-"):
            pass
        free = shutil.disk_usage(standing).free / 1e9
    except OSError as error:
        return Finding("machine", name, "fault", f"{path} cannot be written: {error.strerror or error}", remedy)
    made = "" if standing == path else ", not made yet"
    enough = free >= _NEEDED_GB
    said = f"{path}{made}, {free:.1f} GB free"
    return Finding(
        "machine", name, "ok" if enough else "note", said, "" if enough else f"{_NEEDED_GB:.0f} GB is little; {remedy}"
    )


def kernel() -> Iterator[Finding]:
    """What the kernel lets this user do: boots need root, and podman trips over what a container of ours took away."""
    root = os.geteuid() == 0
    yield Finding(
        "boots",
        "user",
        "ok" if root else "missing",
        "root" if root else "not root: images and packages are checked, not booted",
        "" if root else "run verify with sudo to boot them",
    )
    held = _capabilities()
    lacking = [name for name, bit in _CAPABILITIES.items() if not held >> bit & 1] if root else []
    for name in lacking:
        yield Finding("boots", name, "note", *_LACKING[name])
    if root and not lacking:
        yield Finding("boots", "capabilities", "ok", ", ".join(_CAPABILITIES))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        said = f"at most {hard}; containers are started with {_FILES}"
        yield Finding(
            "boots", "open files", "missing", said, f"ulimit -Hn {_FILES} or more, before this shell is started"
        )
    yield from _binfmt()
    kvm = Path("/dev/kvm").exists()
    yield Finding(
        "boots", "KVM", "ok" if kvm else "note", "there" if kvm else "not there: other systems boot by emulation"
    )


_LACKING = {
    "CAP_SYS_CHROOT": (
        "root without it: no image can be booted in a chroot",
        "add it to the container that this runs in",
    ),
    "CAP_SYS_ADMIN": ("root without it: no mounts, so no podman", "add it to the container that this runs in"),
    "CAP_SYS_RESOURCE": (
        "root without it: podman cannot raise limits; verify starts it so that it need not",
        "by hand: podman --runtime runc run --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 ...",
    ),
}


def _capabilities() -> int:
    try:
        match = re.search(r"^CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return int(match[1], 16) if match else 0


def _binfmt() -> Iterator[Finding]:
    """Whether the kernel itself hands arm64 programs to an emulator: it need not, and an old one there does harm."""
    try:
        text = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").read_text()
    except OSError:
        yield Finding("boots", "binfmt", "ok", "no emulator registered for arm64, and none is needed")
        return
    match = re.search(r"^interpreter (\S+)", text, re.MULTILINE)
    said = f"arm64 programs go to {match[1] if match else 'an emulator'}; verify names its own instead"
    yield Finding("boots", "binfmt", "note" if text.startswith("enabled") else "ok", said)
