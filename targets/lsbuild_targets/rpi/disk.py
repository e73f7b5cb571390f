"""Makes the image of a card: a partition table, a FAT boot partition and an ext4 root; without root, mounts or loop devices.

The file systems are written by their own tools (mke2fs, mkfs.vfat, mcopy), told every time and identity they would make up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from lsbuild.api import TargetError
from lsbuild.packing.archive import tree_size

SECTOR = 512
BOOT_START = 2048
"""Sector of the first partition: 1 MiB, which every card aligns to."""
BOOT_SECTORS = 256 * 2048
ROOT_START = BOOT_START + BOOT_SECTORS
BOOT_OFFSET, ROOT_OFFSET = BOOT_START * SECTOR, ROOT_START * SECTOR
_SPARE = 96 << 20
TOOLS = {
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "zstd": "zstd",
}


def require_tools() -> None:
    """Raise TargetError that names each missing tool and its package."""
    missing = {tool: package for tool, package in TOOLS.items() if tool_path(tool) is None}
    if os.geteuid() != 0 and tool_path("fakeroot") is None:
        missing["fakeroot"] = "fakeroot"
    if missing:
        raise TargetError(
            f"an image cannot be made without {', '.join(missing)}",
            where="targets.rpi.package",
            hint=f"apt-get install {' '.join(missing.values())}; or leave image out",
        )


def tool_path(name: str) -> str | None:
    """Where a tool is; those of administrators are not on everybody's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def identity_of(name: str) -> bytes:
    """32 bytes that stand for an image in its table of partitions and its file systems: the same for the same name."""
    return hashlib.sha256(name.encode()).digest()


def partition_id(identity: bytes, number: int) -> str:
    """PARTUUID of a partition, as the kernel makes it of a table in the MBR."""
    return f"{identity[3::-1].hex()}-{number:02x}"


def write(
    image: Path, root: Path, boot: Mapping[str, Path | bytes], identity: bytes, mtime: int, scratch: Path
) -> None:
    """Write ``image``: the files ``boot`` on the first partition, the tree ``root`` on the second. Raises TargetError."""
    size = (tree_size(root) * 5 // 4 + _SPARE) // (1 << 20) * (1 << 20)
    with image.open("xb") as stream:
        stream.truncate(ROOT_OFFSET + size)
        stream.write(_partitions(identity, size // SECTOR))
    _fat(image, boot, identity, mtime, scratch)
    _ext4(image, root, identity, mtime, size)


def compress(image: Path, packed: Path) -> None:
    """One thread: what several of them write depends on their number."""
    _run(("zstd", "-q", "-T1", "-9", str(image), "-o", str(packed)), {})


def _partitions(identity: bytes, sectors: int) -> bytes:
    """The first sector: an MBR with its two entries, FAT32 (0x0c) and Linux (0x83)."""
    entry = "<B3sB3sII"
    beyond = b"\xfe\xff\xff"  # cylinders, heads and sectors are not used
    boot = struct.pack(entry, 0x80, beyond, 0x0C, beyond, BOOT_START, BOOT_SECTORS)
    root = struct.pack(entry, 0, beyond, 0x83, beyond, ROOT_START, sectors)
    return bytes(440) + identity[:4] + bytes(2) + boot + root + bytes(32) + b"\x55\xaa"


def _fat(image: Path, files: Mapping[str, Path | bytes], identity: bytes, mtime: int, scratch: Path) -> None:
    part = scratch / "boot.fat"
    with part.open("xb") as stream:
        stream.truncate(BOOT_SECTORS * SECTOR)
    times = {"SOURCE_DATE_EPOCH": str(mtime), "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1"}
    number = identity[4:8].hex()
    _run(("mkfs.vfat", "-F", "32", "--invariant", "-i", number, "-n", "LSBOOT", str(part)), times)
    folder = scratch / "boot"
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        os.utime(path, (mtime, mtime))
    _run(("mcopy", "-m", "-i", str(part), *(str(folder / name) for name in sorted(files)), "::"), times)
    _paste(part, image, BOOT_OFFSET)


def _ext4(image: Path, root: Path, identity: bytes, mtime: int, size: int) -> None:
    number = str(uuid.UUID(bytes=identity[8:24], version=4))
    times = {"SOURCE_DATE_EPOCH": str(mtime), "E2FSPROGS_FAKE_TIME": str(mtime), "TZ": "UTC"}
    extended = f"hash_seed={number},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,offset={ROOT_OFFSET}"
    words = (
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-i",
        "16384",
        "-L",
        "lsbuild-root",
        "-U",
        number,
        "-m",
        "1",
        "-E",
        extended,
        "-d",
        str(root),
    )
    # Whoever builds, the files belong to root: as root they do, else fakeroot says so.
    before = () if os.geteuid() == 0 else ("fakeroot",)
    _run((*before, *words, str(image), f"{size >> 10}k"), times)


def _paste(part: Path, image: Path, offset: int) -> None:
    with part.open("rb") as source, image.open("r+b") as sink:
        sink.seek(offset)
        while piece := source.read(1 << 20):
            if piece.count(0) == len(piece):
                sink.seek(len(piece), os.SEEK_CUR)  # stays a hole
            else:
                sink.write(piece)


def _run(words: Sequence[str], environment: Mapping[str, str]) -> None:
    env = {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C", **environment}
    done = subprocess.run(list(words), env=env, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise TargetError(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}")
