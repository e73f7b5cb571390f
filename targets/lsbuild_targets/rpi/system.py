"""The system of a flashable image: a Debian with its kernel out of .deb packages, as one tar, and what boots it.

Nothing of a package is run: what maintainer scripts would have written is written here, or by the board at its first boot.
Step: ``lsbuild_targets.rpi.system:make``.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lsbuild.api import Json, Platform, Source, Step, StepContext, StepError
from lsbuild.packing import cpio
from lsbuild.packing.archive import ZIP_EPOCH, Member, gzip_stream, with_folders, write_tar
from lsbuild.packing.debian_base import Mirror
from lsbuild.packing.rootfs import join
from lsbuild_targets.rpi import board

ROOT, KERNEL, INITRD, DTBS = "rootfs.tar", "vmlinuz", "initrd.gz", "dtbs"
_LINKS = ("bin", "sbin", "lib", "lib64")
_PACKAGES = [
    "base-files",
    "base-passwd",
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
    "linux-image-arm64",
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
    "udev",
    "util-linux",
    "wireless-regdb",
    "wpasupplicant",
]
_NEVER_USED = [
    "adduser",
    "apt",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "gawk",
    "init-system-helpers",
    "initramfs-tools",
    "linux-base",
    "linux-initramfs-tool",
    "media-types",
    "openssl",
    "openssl-provider-legacy",
    "perl",
    "perl-base",
    "runit-helper",
    "tzdata",
    "ucf",
]
_DROP = re.compile(
    r"usr/share/(?!doc/[^/]+/copyright$|ca-certificates/mozilla/|base-passwd/|openssh/sshd_config$|dbus-1/|pam|bash)"
    r"|boot/(System|config)|usr/lib/python3\.\d+/(test|idlelib|turtledemo|tkinter|lib2to3|ensurepip|pydoc_data|config-[^/]*)/"
    r"|etc/(cron|init\.d|default/|logrotate|bash_completion|apt/)|usr/lib/linux-image-[^/]*/(?!broadcom/)"
)
_MODULES = re.compile(
    r"kernel/(arch|block|crypto|lib|net/(core|ipv[46]|wireless|mac80211|rfkill|unix|netfilter|packet|sched)|fs/(ext4|jbd2|fat|nls"
    r"|autofs|fuse|overlayfs)|fs/[^/]+$|drivers/(virtio|mmc|bcma|char/hw_random|clk/bcm|cpufreq|dma|firmware|gpio|hid|hwmon|i2c"
    r"|input|mailbox|mfd|nvmem|pci|pinctrl|pwm|regulator|reset|rtc|soc/bcm|spi|thermal|usb/(core|host|dwc2|storage|common|phy)"
    r"|watchdog|block/virtio_blk|net/(virtio_net|net_failover|phy|mdio|usb|ethernet/(broadcom/genet|cadence)"
    r"|wireless/broadcom)))"
)
"""Drivers of the boards and of QEMU's machine ``virt``; those of servers and graphics cards would be two thirds of the image."""
_FIRST = (
    "virtio_blk",
    "crc32c_generic",
    "ext4",
    "sdhci-iproc",
    "bcm2835",
    "sdhci-brcmstb",
    "gpio-raspberrypi-exp",
    "clk-raspberrypi",
)
"""What the kernel needs before it has its root: disk and file system."""
_CODE = (
    "lsbuild_targets.rpi.system",
    "lsbuild_targets.rpi.board",
    *(f"lsbuild.packing.{name}" for name in ("rootfs", "deb", "untar", "archive", "cpio")),
)


def uri(mirror: Mirror) -> str:
    """The source of the system's packages: Debian 13 for arm64."""
    names = [*_PACKAGES, *(f"-{name}" for name in _NEVER_USED)]
    found = f"debian:trixie/arm64?{','.join(names)}"
    if mirror.mirror:
        found += f"#mirror={mirror.mirror}" + (f"&security={mirror.security}" if mirror.security else "")
    return found


def step(platform: Platform, debs: Source) -> Step:
    """The step that makes the system."""
    return Step(name=f"system.{platform.tag}", run=f"{__name__}:make", sources={"debs": debs}, code=_CODE)


def make(context: StepContext) -> Mapping[str, Json]:
    """Write ``rootfs.tar``, ``vmlinuz``, ``initrd.gz`` and ``dtbs/`` below ``out``. Raises SourceError, StepError."""
    found = join(context.sources["debs"].files, context.progress, _kept)
    kernel = next((path for path in found if path.startswith("boot/vmlinuz-")), None)
    if kernel is None:
        raise StepError("the packages have no kernel", hint="does linux-image-arm64 still exist?")
    version = kernel.removeprefix("boot/vmlinuz-")
    (context.out / KERNEL).write_bytes(_bytes(found.pop(kernel)))
    with (context.out / INITRD).open("wb") as raw, gzip_stream(raw) as packed:
        cpio.write(packed, _initrd(found, version))
    (context.out / DTBS).mkdir()
    for path in [path for path in found if path.startswith("usr/lib/linux-image-")]:
        member = found.pop(path)
        if path.endswith(".dtb") and "-rpi-" in path:
            (context.out / DTBS / path.rsplit("/", 1)[-1]).write_bytes(_bytes(member))
    found |= {member.path: member for member in board.files(found)}
    with (context.out / ROOT).open("wb") as stream:
        write_tar(stream, with_folders(found.values()), ZIP_EPOCH)
    return {"kernel": version, "packages": len(context.sources["debs"].files), "files": len(found)}


def _kept(members: Iterable[Member]) -> Iterator[Member]:
    for member in members:
        first, _, rest = member.path.partition("/")
        path = f"usr/{member.path}" if first in _LINKS and rest else member.path
        is_folder = member.content is None and not member.link
        module = path.startswith("usr/lib/modules/") and "/kernel/" in path
        if is_folder or path in _LINKS or _DROP.match(path) or "/__pycache__/" in path:
            continue
        if module and not _MODULES.match(path[path.index("/kernel/") + 1 :]):
            continue
        yield replace(member, path=path, mode=member.mode & 0o755, owner=0)


def _initrd(found: Mapping[str, Member], version: str) -> Iterator[Member]:
    """The first root: busybox, the modules that lead to the real one in the order they are loaded, and ``init``."""
    modules = {
        _name(path): path for path in found if path.startswith(f"usr/lib/modules/{version}/kernel/") and ".ko" in path
    }
    order: list[str] = []
    contents: dict[str, bytes] = {}

    def load(name: str) -> None:
        if name not in modules or name in order or name in contents:
            return
        contents[name] = lzma.decompress(_bytes(found[modules[name]]))
        needs = re.search(rb"\0depends=([^\0]*)\0", contents[name])
        for need in needs[1].decode().split(",") if needs else []:
            load(need.replace("-", "_"))
        order.append(name)

    for name in _FIRST:
        load(name.replace("-", "_"))
    yield Member("bin/busybox", found["usr/bin/busybox"].content, 0o755)
    yield Member("bin/sh", link="busybox")
    yield from (Member(f"modules/{name}.ko", contents[name]) for name in order)
    yield from (Member(folder, mode=0o755) for folder in ("dev", "proc", "sys", "root"))
    yield Member("init", board.init(order, version), 0o755)


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1].partition(".ko")[0].replace("-", "_")


def _bytes(member: Member) -> bytes:
    content = member.content
    return content.read_bytes() if isinstance(content, Path) else content or b""
