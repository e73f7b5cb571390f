"""Boots an unpacked image the truest way this machine has: podman with runc, a chroot, or a chroot under QEMU.

It stands on ``podman``, which keeps away from what the user has.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from platform import machine

from lsbuild import toolbox
from lsbuild.api import Check
from lsbuild.errors import VerifyError
from lsbuild.packing.boot import boot_and_ask, running
from lsbuild.packing.oci_read import ReadImage
from lsbuild.packing.podman import podman

_KERNEL = {"amd64": "x86_64", "arm64": "aarch64"}
_ELF = {"x86_64": 62, "aarch64": 183}
"""e_machine of the ELF specification."""
_LISTEN = ("--host", "127.0.0.1", "--port", "0")
_BOOT_SECONDS, _EMULATED_SECONDS = 120.0, 300.0
QEMU_CPU = "cortex-a76"
"""Named, because QEMU's default core is four times slower; it is that of a Raspberry Pi 5."""
_QEMU = ".qemu-aarch64"


def boot(image: ReadImage, root: Path, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
    """Start the image whose layers lie unpacked in ``root``, ask it, stop it.

    Where nothing here can run it, the check ``boot`` is skipped and says what is missing.
    """
    if os.geteuid() != 0:
        yield _skipped("that needs root, for podman with runc or for chroot")
    elif _KERNEL[image.arch] != machine():
        yield from _emulated(image, root, ask)
    elif toolbox.PODMAN.path() and toolbox.RUNC.path():
        yield from _podman(image, root, ask)
    else:
        yield from _chroot(image, root, "", ask)


def require_machine(root: Path, arch: str) -> int:
    """Check that every native file below ``root`` is 64-bit code for ``arch``; returns their number. Raises VerifyError."""
    count = 0
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as stream:
            head = stream.read(20)
        if head[:4] != b"\x7fELF":
            continue
        count += 1
        (found,) = struct.unpack_from("<H", head, 18)
        if head[4:6] != b"\x02\x01" or found != _ELF[arch]:
            bits = 64 if head[4] == 2 else 32
            raise VerifyError(
                f"/{path.relative_to(root)} is {bits}-bit code for machine {found}, not 64-bit for {_ELF[arch]} ({arch})"
            )
    return count


def _podman(image: ReadImage, root: Path, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
    """Run the image as a container. Where podman itself cannot work (no mounts, no cgroups), a chroot takes its place."""
    with podman() as here:
        try:
            name = here.pull(f"oci:{image.root}", image.arch)
            here.ask_python(name, image.config["config"]["Entrypoint"][0], "")
        except VerifyError as error:
            yield from _chroot(image, root, f"since {error}", ask)
        else:
            with running(here.run(name, _LISTEN), here.folder, here.env) as started:
                for check in boot_and_ask(started, _BOOT_SECONDS, ask):
                    yield _said(check, "podman and runc, read-only root, no capabilities")


def _emulated(image: ReadImage, root: Path, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
    found = qemu_for(image.arch)
    if isinstance(found, str):
        yield _skipped(found)
        return
    before = emulator(found[0], root)
    yield from _chroot(image, root, f"QEMU {found[1]} as {QEMU_CPU}", ask, before, _EMULATED_SECONDS)


def emulator(qemu: str, root: Path) -> tuple[str, ...]:
    """Put QEMU into ``root``; what to write before a command there."""
    shutil.copyfile(qemu, root / _QEMU)
    (root / _QEMU).chmod(0o755)
    return (f"/{_QEMU}",)


def qemu_for(arch: str) -> tuple[str, int] | str:
    """(path, major version) of a qemu-user here that runs images for ``arch`` ("arm64"), or what is missing."""
    tool = toolbox.QEMU_USER
    fault = tool.fault() if arch == "arm64" else f"nothing here runs code for {arch}"
    return f"this machine is {machine()}: {fault}" if fault else (tool.path(), toolbox.major(tool.path()))


def _chroot(
    image: ReadImage,
    root: Path,
    why: str,
    ask: Callable[[str], Iterable[Check]],
    before: Sequence[str] = (),
    seconds: float = _BOOT_SECONDS,
) -> Iterator[Check]:
    """Run the image's entry point in ``root`` as its own user."""
    settings = image.config["config"]
    user, group = settings["User"].split(":")
    env = dict(entry.split("=", 1) for entry in settings["Env"])
    confined = Confined(root, (int(user), int(group)), (*before, *settings["Entrypoint"], *_LISTEN), env, seconds)
    yield from boot_confined(confined, (*before, settings["Entrypoint"][0]), why, ask)


@dataclass(frozen=True, slots=True)
class Confined:
    """What is run in ``root`` as a user (its id and its group's) who can write nowhere but in /tmp."""

    root: Path
    user: tuple[int, int]
    command: tuple[str, ...]
    env: Mapping[str, str]
    seconds: float
    cpu: str = QEMU_CPU
    """QEMU's name of the core, where the command is QEMU."""


def boot_confined(
    what: Confined, python: Sequence[str], why: str, ask: Callable[[str], Iterable[Check]]
) -> Iterator[Check]:
    """Start it with a /proc of its own, ask it, stop it. ``python`` is how Python alone is started in there.

    Where that is not possible, the check ``boot`` is skipped and says what is missing.
    """
    confine = [
        "unshare",
        "--mount",
        "--mount-proc=/proc",
        f"--root={what.root}",
        "--wd=/",
        f"--setgid={what.user[1]}",
        f"--setuid={what.user[0]}",
    ]
    what.root.parent.chmod(0o711)  # a temporary folder is closed to others, and the user is another
    try:
        _quiet([*confine, "--", *python, "-I", "-S", "-c", ""])
    except (VerifyError, OSError, subprocess.TimeoutExpired) as error:
        yield _skipped(f"chroot with a /proc of its own is not possible here: {error}")
        return
    env = {**what.env, "QEMU_CPU": what.cpu, "PATH": f"{os.defpath}:/usr/sbin:/sbin"}
    with running([*confine, "--", *what.command], Path("/"), env) as started:
        for check in boot_and_ask(started, what.seconds, ask):
            yield _said(check, f"chroot, {why}" if why else "chroot")


def _skipped(why: str) -> Check:
    return Check.skipped("boot", f"NOT booted, files only: {why}")


def _said(check: Check, how: str) -> Check:
    return replace(check, detail=f"{check.detail} ({how})") if check.name == "boot" and not check.left else check


def _quiet(command: Sequence[str]) -> str:
    """The output of a command that ends by itself. Raises VerifyError with what it complained about."""
    env = {"PATH": f"{os.defpath}:/usr/sbin:/sbin", "HOME": "/nonexistent", "QEMU_CPU": QEMU_CPU}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=env)  # noqa: S603
    if done.returncode:
        raise VerifyError(f"{command[0]} failed: {done.stderr.strip()[-400:]}")
    return done.stdout
