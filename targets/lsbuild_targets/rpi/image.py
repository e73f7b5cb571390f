"""Puts system and bundle together into the image of a card, ``NAME.img.zst``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from lsbuild.api import Bundle
from lsbuild.packing import untar
from lsbuild.packing.archive import Member, write_tree
from lsbuild_targets.rpi import board, contents, disk, system
from lsbuild_targets.rpi.options import Options

ENDING = ".img.zst"
COMMAND_LINE = f"root=LABEL={board.LABEL} rootfstype=ext4 rw rootwait quiet console=tty1 panic=30\n"
_SETTINGS = """\
# Settings of this board, taken over when it starts; secrets are removed from here then. Lines with a # count for nothing.
#hostname={hostname}
# A public key for `ssh pi@HOST`, and another. Without one nobody can log in.
#ssh_key=ssh-ed25519 AAAA... you@laptop
#wifi_ssid=
#wifi_password=
#wifi_country=DE
# A fixed address in place of DHCP.
#address=192.168.1.50/24
#gateway=192.168.1.1
#dns=192.168.1.1
# Where the server listens, and secrets: env.NAME=VALUE.
#env.LSBUILD_HOST=0.0.0.0
"""
_CONFIG = """\
# Read by the firmware of a Raspberry Pi. The firmware itself (start4.elf, fixup4.dat, bootcode.bin) is not free software
# and not part of Debian's main archive: copy them here from the package raspi-firmware or from Raspberry Pi OS.
arm_64bit=1
kernel=vmlinuz
initramfs initrd.gz followkernel
"""


def write(path: Path, bundle: Bundle, options: Options, made: Path, mtime: int) -> None:
    """Write the compressed image at ``path``; ``made`` is the folder that ``system.make`` wrote."""
    disk.require_tools()
    with TemporaryDirectory(prefix="lsbuild-image-", dir=path.parent) as folder:
        scratch = Path(folder)
        root = scratch / "root"
        root.mkdir()
        with (made / system.ROOT).open("rb") as stream:
            untar.extract(stream, root, system.ROOT)
        _add(root, list(_installed(bundle, options)), mtime)
        image = scratch / path.name.removesuffix(".zst")
        disk.write(image, root, _boot_files(options, made), mtime, scratch)
        disk.compress(image, path)


def _installed(bundle: Bundle, options: Options) -> Iterator[Member]:
    """The files of the .deb, its unit enabled, and the name of the board."""
    name = contents.package_name(bundle.manifest)
    yield from contents.installed(bundle, options)
    yield Member(f"etc/systemd/system/multi-user.target.wants/{name}.service", link=f"/{contents.UNITS}/{name}.service")
    hostname = hostname_of(bundle, options)
    yield Member("etc/hostname", f"{hostname}\n".encode())


def hostname_of(bundle: Bundle, options: Options) -> str:
    """As the options say, else the name of the spec with what a name of a machine may hold."""
    return options.hostname or bundle.manifest.name.replace("_", "-").replace(".", "-")


def _boot_files(options: Options, made: Path) -> dict[str, Path | bytes]:
    found: dict[str, Path | bytes] = {path.name: path for path in sorted((made / system.DTBS).iterdir())}
    return found | {
        "vmlinuz": made / system.KERNEL,
        "initrd.gz": made / system.INITRD,
        "cmdline.txt": COMMAND_LINE.encode(),
        "config.txt": _CONFIG.encode(),
        "lsbuild.txt": _SETTINGS.format(hostname=options.hostname or "kitchen").encode(),
    }


def _add(root: Path, members: list[Member], mtime: int) -> None:
    """Lay members over what is there; folders that exist stay as they are."""
    with TemporaryDirectory(dir=root.parent) as folder:
        write_tree(Path(folder), members, mtime)
        shutil.copytree(folder, root, symlinks=True, dirs_exist_ok=True)
    for name, mode in board.PROTECTED.items():
        (root / name).chmod(mode)
    for path in (*sorted(root.rglob("*"), reverse=True), root):
        os.utime(path, (mtime, mtime), follow_symlinks=False)
