"""Puts system and bundle together into the image of a card, ``NAME.img.zst``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from lsbuild.api import Bundle
from lsbuild.delivery import card_settings
from lsbuild.packing import mbr, untar
from lsbuild.packing.archive import Member, write_tree
from lsbuild_targets.rpi import board, contents, disk, system
from lsbuild_targets.rpi.options import Options

ENDING = ".img.zst"
_COMMAND_LINE = (
    # The last console is where faults of the settings are told: a screen, and by the kernel the serial line too.
    "console=ttyS1,115200 console=tty0 root=PARTUUID={root} rootfstype=ext4 rw quiet panic=30 "
    # Those that nothing here configures cost a second at each start.
    "lsm=landlock,lockdown,yama\n"
)
_SETTINGS = """\
# Settings of this board, taken over whenever it starts. A line with a # counts for nothing.
# Secrets (wifi_password, env.NAME) are removed from here when they were taken over.
{given}
#hostname=kitchen
# A public key for `ssh pi@HOST`; a second line for a second one. Without a key nobody can log in.
#ssh_key=ssh-ed25519 AAAA... you@laptop
#timezone=Europe/Berlin
#wifi_ssid=
#wifi_password=
#wifi_country=DE
# A fixed address in place of DHCP.
#address=192.168.1.50/24
#gateway=192.168.1.1
#dns=192.168.1.1
# Where the server listens, and secrets of the spec.
#env.LSBUILD_HOST=0.0.0.0
"""
_CONFIG = """\
# Read by the firmware of a Raspberry Pi.
arm_64bit=1
enable_uart=1
upstream_kernel=1
os_check=0
kernel=vmlinuz
initramfs initrd.gz followkernel
"""
_NO_FIRMWARE = """\
# THERE IS NO FIRMWARE on this card, so no Raspberry Pi 4 or Zero 2 W starts from it: bootcode.bin, start*.elf and
# fixup*.dat belong here. It was built with `firmware: none`.
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
        identity = disk.identity_of(image.name)
        disk.write(image, root, _boot_files(options, made / system.BOOT, identity), identity, mtime, scratch)
        disk.compress(image, path)


def _installed(bundle: Bundle, options: Options) -> Iterator[Member]:
    """The files of the .deb, its unit enabled, and the name of the board."""
    name = contents.package_name(bundle.manifest)
    yield from contents.installed(bundle, contents.device(options))
    yield Member(f"etc/systemd/system/multi-user.target.wants/{name}.service", link=f"/{contents.UNITS}/{name}.service")
    hostname = hostname_of(bundle, options)
    yield Member("etc/hostname", f"{hostname}\n".encode())


def firmware_of(options: Options) -> str:
    """``debian``, ``none``, or ``given`` for a folder, whose path is nobody's business but the builder's."""
    return options.firmware if options.firmware in ("debian", "none") else "given"


def hostname_of(bundle: Bundle, options: Options) -> str:
    """As the options say, else the name of the spec with what a name of a machine may hold."""
    return options.hostname or bundle.manifest.name.replace("_", "-").replace(".", "-")


def _boot_files(options: Options, made: Path, identity: bytes) -> dict[str, Path | bytes]:
    found: dict[str, Path | bytes] = {path.name: path for path in made.iterdir()}
    given = [
        ("hostname", options.hostname),
        *(("ssh_key", key) for key in options.ssh_keys),
        ("timezone", options.timezone),
    ]
    lines = "\n".join(f"{name}={value}" for name, value in given if value)
    return found | {
        "cmdline.txt": _COMMAND_LINE.format(root=mbr.partition_id(identity[:4], 2)).encode(),
        "config.txt": (_CONFIG + (_NO_FIRMWARE if options.firmware == "none" else "")).encode(),
        card_settings.FILE: _SETTINGS.format(given=lines).encode(),
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
