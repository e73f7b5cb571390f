"""What of Debian's kernel goes onto a board: the drivers it may need, their index, and the first root that finds the real one."""

from __future__ import annotations

import lzma
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lsbuild.api import Source, StepError
from lsbuild.packing.archive import ZIP_EPOCH, Member, write_tree
from lsbuild.packing.rootfs import join, program
from lsbuild_targets.rpi import board

_MODULES = re.compile(
    r"kernel/(arch|block|crypto|lib|net/(core|ipv[46]|wireless|mac80211|rfkill|unix|netfilter|packet|sched)|fs/(ext4|jbd2|fat|nls"
    r"|autofs|fuse|overlayfs)|fs/[^/]+$|drivers/(virtio|mmc|bcma|char/hw_random|clk/(bcm|clk-rp1)|cpufreq|dma|firmware|gpio|hid|hwmon|i2c"
    r"|input|irqchip|mailbox|mfd|misc/rp1|nvmem|pci|pinctrl|pwm|regulator|reset|rtc|scsi/(scsi_common|scsi_mod|sd_mod)|soc/bcm|spi|thermal"
    r"|usb/(core|host|dwc[23]|storage|common|phy)|watchdog|block/virtio_blk"
    r"|net/(virtio_net|net_failover|phy|mdio|usb|ethernet/(broadcom/genet|cadence)|wireless/broadcom)))"
)
"""Drivers of the boards and of QEMU's machine ``virt``; those of servers and graphics cards would be two thirds of the image."""
_FIRST = (
    "crc32c_generic",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "virtio_blk",
    "reset_raspberrypi",
    "pinctrl_bcm2712",
    "gpio_brcmstb",
    "sdhci_iproc",
    "bcm2835",
    "sdhci_brcmstb",
    "mmc_block",
    "xhci_pci",
    "uas",
    "usb_storage",
    "sd_mod",
)
"""What may lead to the two partitions, in the order in which it is loaded; what a kernel has built in is no module."""


def wanted(path: str) -> bool:
    """Whether a file of a package is no module at all, or one that a board may need."""
    module = path.startswith("usr/lib/modules/") and "/kernel/" in path
    return not module or _MODULES.match(path[path.index("/kernel/") + 1 :]) is not None


def content(member: Member) -> bytes:
    """The bytes of a file."""
    found = member.content
    return found.read_bytes() if isinstance(found, Path) else found or b""


def first_root(found: Mapping[str, Member], version: str) -> Iterator[Member]:
    """The root that the kernel unpacks: busybox, the modules that lead to the card, and ``init``."""
    files = {_name(path): member for path, member in found.items() if path.startswith(_kernel(version))}
    modules: dict[str, bytes] = {}
    for name in _FIRST:
        _load(name, files, modules, ())
    yield Member("bin/busybox", found["usr/bin/busybox"].content, 0o755)
    yield Member("bin/sh", link="busybox")
    yield from (Member(f"modules/{name}.ko", code) for name, code in modules.items())
    yield from (Member(folder, mode=0o755) for folder in ("dev", "proc", "sys", "root"))
    yield Member("init", board.init(modules), 0o755)


def index(found: Mapping[str, Member], version: str, tools: Source) -> Iterator[Member]:
    """What ``depmod`` of the packages ``tools`` writes for the modules: without it the board loads no driver by itself.

    Raises StepError when it fails.
    """
    folder = f"usr/lib/modules/{version}"
    with tempfile.TemporaryDirectory(prefix="lsbuild-depmod-") as scratch:
        here, tree = Path(scratch, "here"), Path(scratch, "tree")
        for each in (here, tree):
            each.mkdir()
        write_tree(here, _plain(tools), ZIP_EPOCH)
        write_tree(tree, (each for path, each in found.items() if path.startswith(f"{folder}/")), ZIP_EPOCH)
        (tree / "lib").symlink_to("usr/lib")
        words = (*program(here, "usr/bin/kmod", "depmod"), "-b", str(tree), version)
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - a verified package's
        if done.returncode:
            raise StepError(f"depmod failed: {done.stderr.strip()[-300:]}")
        made = sorted(path for path in (tree / folder).glob("modules.*") if f"{folder}/{path.name}" not in found)
        yield from [Member(f"{folder}/{path.name}", path.read_bytes()) for path in made]


def _plain(tools: Source) -> Iterator[Member]:
    """The files of the packages at their places below ``usr``."""

    def below_usr(members: Iterable[Member]) -> Iterator[Member]:
        for member in members:
            path = member.path if member.path.startswith("usr/") else f"usr/{member.path}"
            if (member.content is not None or member.link) and path.startswith(("usr/bin/", "usr/lib/")):
                yield Member(path, member.content, member.mode, member.link)

    needed = [
        file for file in tools.files if re.search(r"/(kmod|lib(kmod2|c6|lzma5|zstd1|ssl3\w*|crypto\w*))_", file.path)
    ]
    yield from join(needed, lambda *_: None, below_usr).values()


def _load(name: str, files: Mapping[str, Member], loaded: dict[str, bytes], above: tuple[str, ...]) -> None:
    """Add a module behind those that it needs."""
    if name not in files or name in loaded or name in above:
        return
    code = _unpacked(content(files[name]))
    needs = re.search(rb"\0depends=([^\0]*)\0", code)
    for need in needs[1].decode().split(",") if needs else []:
        _load(need.replace("-", "_"), files, loaded, (*above, name))
    loaded[name] = code


def _unpacked(code: bytes) -> bytes:
    return lzma.decompress(code) if code.startswith(b"\xfd7zXZ") else code


def _kernel(version: str) -> str:
    return f"usr/lib/modules/{version}/kernel/"


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1].partition(".ko")[0].replace("-", "_")
