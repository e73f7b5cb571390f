"""The system of a flashable image: a Debian with its kernel out of .deb packages, as one tar, and what boots it.

Nothing of a package is run: what maintainer scripts would have written is written here, or by the board at its first boot.
Step: ``lsbuild_targets.rpi.system:make``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from platform import machine
from typing import IO, cast

from lsbuild.api import Json, Platform, Source, SourceFile, Step, StepContext, StepError
from lsbuild.packing import cpio
from lsbuild.packing.archive import ZIP_EPOCH, Member, gzip_stream, with_folders, write_tar
from lsbuild.packing.debian_base import ARCHES
from lsbuild.packing.rootfs import compiled, join
from lsbuild_targets.rpi import board, kernel
from lsbuild_targets.rpi.options import Options

ROOT, BOOT = "rootfs.tar", "boot"
KERNEL, INITRD = "vmlinuz", "initrd.gz"
PYTHON = "3.13"
_LINKS = ("bin", "sbin", "lib", "lib64")
_PACKAGES = (
    "base-files",
    "bash",
    "busybox-static",
    "ca-certificates",
    "coreutils",
    "dash",
    "dbus",
    "e2fsprogs",
    "fdisk",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "iproute2",
    "kmod",
    "libpython3.13-stdlib",
    "libstdc++6",
    "login",
    "mount",
    "netbase",
    "openssh-server",
    "passwd",
    "procps",
    "python3.13-minimal",
    "sed",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "tar",
    "tzdata",
    "udev",
    "util-linux",
    "wireless-regdb",
    "wpasupplicant",
)
_NEVER_USED = (
    "adduser",
    "apt",
    "base-passwd",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "gawk",
    "init-system-helpers",
    "media-types",
    "openssl",
    "openssl-provider-legacy",
    "perl",
    "perl-base",
    "runit-helper",
    "ucf",
)
_BESIDE_THE_KERNEL = ("dracut", "initramfs-tools", "kmod", "linux-base", "linux-initramfs-tool")
_DROP = re.compile(
    r"usr/share/(?!doc/[^/]+/copyright$|ca-certificates/mozilla/|openssh/sshd_config$|dbus-1/|pam|bash|zoneinfo/(?!right|posix))"
    r"|boot/(System|config)|usr/lib/python3\.\d+/(test|idlelib|turtledemo|tkinter|lib2to3|ensurepip|pydoc_data|config-[^/]*)/"
    r"|usr/lib/python3\.\d+/sitecustomize\.py|etc/(python3|modules-load|cron|init\.d|initramfs|kernel|default/|logrotate|bash_completion|apt/)"
    r"|usr/lib/(linux-image-[^/]*|modules/[^/]*/dtb)/(?!broadcom/)|usr/lib/modules/[^/]*/(System\.map|config)$"
    r"|usr/lib/firmware/(?!(brcm|cypress)/\w+-sdio\.|regulatory\.db)|usr/lib/udev/hwdb\.d/"
    # No session is kept, so it starts when somebody asks it: to reboot.
    r"|usr/lib/systemd/system/multi-user\.target\.wants/systemd-logind\.service"
    r"|usr/lib/systemd/(user-)?(environment-)?generators/|usr/lib/systemd/system-generators/(?!systemd-fstab)"
)
_CODE = (
    *(f"lsbuild_targets.rpi.{name}" for name in ("system", "kernel", "board", "board.accounts", "board.first_boot")),
    *(f"lsbuild.packing.{name}" for name in ("rootfs", "deb", "untar", "archive", "cpio")),
    "lsbuild.delivery.card_settings",
)
NOT_FREE = "raspi-firmware,firmware-brcm80211,-dosfstools,-dpkg"
"""Debian's packages of what a board starts with and of its Wi-Fi; both are in its component non-free-firmware."""


def sources(options: Options) -> Mapping[str, str]:
    """``system``, ``kernel`` and ``firmware`` of the board, and ``system-tools``, which work for them on this machine."""
    mirror = options.base
    own = f"&mirror={mirror.mirror}" if mirror.mirror else ""
    own += f"&security={mirror.security}" if mirror.mirror and mirror.security else ""

    def uri(suite: str, arch: str, wanted: str, component: str = "") -> str:
        behind = f"{own}{component}".lstrip("&")
        return f"debian:{suite}/{arch}?{wanted}" + (f"#{behind}" if behind else "")

    here = next((debian for debian, name in ARCHES.items() if name == machine()), "amd64")
    found = {
        "system": uri("trixie", "arm64", ",".join([*_PACKAGES, *(f"-{name}" for name in _NEVER_USED)])),
        "kernel": uri(
            options.board.kernel,
            "arm64",
            ",".join(["linux-image-arm64", *(f"-{name}" for name in _BESIDE_THE_KERNEL)]),
        ),
        "system-tools": uri(
            "trixie", here, f"python{PYTHON}-minimal,libpython{PYTHON}-stdlib,kmod,-media-types,-tzdata"
        ),
    }
    if options.firmware == "debian":
        found["firmware"] = uri("trixie", "arm64", NOT_FREE, "&component=non-free-firmware")
    elif options.firmware != "none":
        found["firmware"] = options.firmware
    return found


def step(platform: Platform, given: Mapping[str, Source]) -> Step:
    """The step that makes the system out of ``sources``."""
    return Step(name=f"system.{platform.tag}", run=f"{__name__}:make", sources=given, code=_CODE)


def make(context: StepContext) -> Mapping[str, Json]:
    """Write ``rootfs.tar`` and the folder ``boot``. Raises SourceError, StepError."""
    boot = context.out / BOOT
    boot.mkdir()
    packages, loose = _firmware(context.sources.get("firmware"))
    debs = [*context.sources["system"].files, *context.sources["kernel"].files, *packages]
    found = join(debs, context.progress, _kept)
    version = _take_boot_files(found, boot)
    for name, file in loose.items():
        _place(found, boot, name, file)
    tools = context.sources["system-tools"]
    with (boot / INITRD).open("wb") as raw, gzip_stream(raw) as packed:
        cpio.write(cast("IO[bytes]", packed), kernel.first_root(found, version))
    found |= {member.path: member for member in kernel.index(found, version, tools)}
    found |= {member.path: member for member in compiled(found, f"usr/lib/python{PYTHON}", tools, PYTHON)}
    found |= {member.path: member for member in board.files(found)}
    with (context.out / ROOT).open("wb") as stream:
        write_tar(stream, with_folders(found.values()), ZIP_EPOCH)
    return {"kernel": version, "packages": len(debs), "files": len(found)}


def _firmware(source: Source | None) -> tuple[list[SourceFile], dict[str, SourceFile]]:
    """The firmware as Debian's packages, or as files of a folder that somebody gave."""
    files = source.files if source is not None else ()
    packages = [file for file in files if file.path.startswith("pool/")]
    loose = {} if packages else {file.path: file for file in files}
    if loose and not any(re.fullmatch(r"start\w*\.elf", name) for name in loose):
        raise StepError(
            "the folder of targets.rpi.firmware holds no start.elf or start4.elf",
            hint="it is a copy of the boot partition of Raspberry Pi OS, or of `boot` in Raspberry Pi's firmware repository",
        )
    return packages, loose


_BOOTS = re.compile(r"bootcode\.bin|(start|fixup)\w*\.(elf|dat)|LICEN[CS]E[\w.]*")


def _place(found: dict[str, Member], boot: Path, name: str, file: SourceFile) -> None:
    """Lay a file of the given folder where the board looks for it: firmware of Wi-Fi in ``brcm/``, the rest beside the kernel."""
    if _BOOTS.fullmatch(name):
        (boot / name).write_bytes(file.location.read_bytes())
    elif name.startswith("brcm/"):
        path = f"usr/lib/firmware/{name}"
        found[path] = Member(path, file.location.read_bytes())


# Debian 13 keeps kernel and device trees in folders of their own, later releases beside the modules.
_KERNEL = re.compile(r"boot/vmlinuz-(.+)|usr/lib/modules/(.+)/vmlinuz")
_TREE = re.compile(r"usr/lib/(linux-image-[^/]+|modules/[^/]+/dtb)/broadcom/")


def _take_boot_files(found: dict[str, Member], boot: Path) -> str:
    """Move kernel, device trees and firmware from the packages to ``boot``; returns the kernel's version."""
    version = ""
    for path in sorted(found):
        name = posixpath.basename(path)
        if match := _KERNEL.fullmatch(path):
            version = match[1] or match[2]
            (boot / KERNEL).write_bytes(kernel.content(found.pop(path)))
        elif _TREE.match(path):
            tree = found.pop(path)
            if name.endswith(".dtb") and "-rpi-" in name:
                (boot / name).write_bytes(kernel.content(tree))
        elif path.startswith("usr/lib/raspi-firmware/"):
            part = found.pop(path)
            if _BOOTS.fullmatch(name) and not re.search(r"(x|cd|db)\.", name):
                (boot / name).write_bytes(kernel.content(part))
        elif path == "usr/share/doc/raspi-firmware/copyright":
            (boot / "LICENCE.raspi-firmware").write_bytes(kernel.content(found[path]))
    if not version:
        raise StepError("the packages have no kernel", hint="does linux-image-arm64 still exist?")
    return version


def _kept(members: Iterable[Member]) -> Iterator[Member]:
    for member in members:
        first, _, rest = member.path.partition("/")
        path = f"usr/{member.path}" if first in _LINKS and rest else member.path
        is_folder = member.content is None and not member.link
        if is_folder or path in _LINKS or _DROP.match(path) or "/__pycache__/" in path or not kernel.wanted(path):
            continue
        yield replace(member, path=path, mode=member.mode & 0o755, owner=0)
