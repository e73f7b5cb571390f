"""Makes the image of a card: a partition table, a FAT boot partition and an ext4 root; without root, mounts or loop devices.

The file systems are written by their own tools (mke2fs, mkfs.vfat, mcopy), told every time and identity they would make up.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from lsbuild import toolbox
from lsbuild.api import TargetError
from lsbuild.packing import mbr
from lsbuild.packing.archive import tree_size
from lsbuild.packing.mbr import SECTOR

BOOT_START = 2048
"""Sector of the first partition: 1 MiB, which every card aligns to."""
BOOT_OFFSET = BOOT_START * SECTOR
BOOT_SIZE = 256 << 20
_SPARE = 96 << 20
_FIRST_INODE = 11
"""That of ``lost+found``; those of the tree follow it without a gap."""
TOOLS = (toolbox.MKE2FS, toolbox.DEBUGFS, toolbox.MKFS_VFAT, toolbox.MCOPY, toolbox.ZSTD)


def require_tools() -> None:
    """Raise TargetError that names each missing tool and how to get it."""
    wanted = TOOLS if os.geteuid() == 0 else (*TOOLS, toolbox.FAKEROOT)
    missing = {tool.name: tool.get for tool in wanted if not tool.path()}
    if missing:
        raise TargetError(
            f"an image cannot be made without {', '.join(missing)}",
            where="targets.rpi.package",
            hint=f"{'; '.join(dict.fromkeys(missing.values()))}; or leave image out",
        )


def identity_of(name: str) -> bytes:
    """32 bytes that stand for an image in its table of partitions and its file systems: the same for the same name."""
    return hashlib.sha256(name.encode()).digest()


def write(
    image: Path,
    root: Path,
    boot: Mapping[str, Path | bytes],
    identity: bytes,
    mtime: int,
    scratch: Path,
    boot_size: int = BOOT_SIZE,
) -> None:
    """Write ``image``: the files ``boot`` on the first partition, the tree ``root`` on the second. Raises TargetError."""
    size = (tree_size(root) * 5 // 4 + _SPARE) // (1 << 20) * (1 << 20)
    first = _fat(boot, boot_size, identity, mtime, scratch)
    second = _ext4(root, size, identity, mtime, scratch)
    with image.open("xb") as stream:
        stream.truncate(BOOT_OFFSET + boot_size + size)
        sectors = boot_size // SECTOR
        stream.write(mbr.table(identity[:4], (BOOT_START, sectors), (BOOT_START + sectors, size // SECTOR)))
        for path, offset in ((first, BOOT_OFFSET), (second, BOOT_OFFSET + boot_size)):
            with path.open("rb") as source:
                _copy(source, 0, path.stat().st_size, stream, offset)


def part(image: Path, number: int, out: Path) -> Path:
    """Write partition 1 or 2 of an image or a card to ``out``, as its own table has it; what is empty stays a hole.

    Raises VerifyError when there is no such partition.
    """
    with image.open("rb") as stream, out.open("xb") as sink:
        start, sectors = mbr.partitions(stream.read(SECTOR))[number - 1]
        _copy(stream, start * SECTOR, sectors * SECTOR, sink, 0)
        sink.truncate(sectors * SECTOR)
    return out


def compress(image: Path, packed: Path) -> None:
    """One thread: what several of them write depends on their number."""
    _run(("zstd", "-q", "-T1", "-9", str(image), "-o", str(packed)), {})


def _fat(files: Mapping[str, Path | bytes], size: int, identity: bytes, mtime: int, scratch: Path) -> Path:
    part = scratch / "boot.fat"
    with part.open("xb") as stream:
        stream.truncate(size)
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
    return part


def _ext4(root: Path, size: int, identity: bytes, mtime: int, scratch: Path) -> Path:
    number = str(uuid.UUID(bytes=identity[8:24], version=4))
    times = {"SOURCE_DATE_EPOCH": str(mtime), "E2FSPROGS_FAKE_TIME": str(mtime), "TZ": "UTC"}
    part = scratch / "root.ext4"
    extended = f"hash_seed={number},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0"
    words = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-i", "16384", "-m", "1", "-U", number]
    words += ["-L", "lsbuild-root", "-E", extended, "-d", str(root), str(part), f"{size >> 10}k"]
    # Whoever builds, the files belong to root: as root they do, else fakeroot says so.
    _run((*(() if os.geteuid() == 0 else ("fakeroot",)), *words), times)
    # mke2fs takes the times of last access and change from the tree, where nobody can set them.
    inodes = (2, *range(_FIRST_INODE, _FIRST_INODE + 1 + sum(1 for _ in root.rglob("*"))))
    fields = (("atime", f"@{mtime}"), ("ctime", f"@{mtime}"), ("atime_extra", "0"), ("ctime_extra", "0"))
    script = scratch / "times"
    lines = [f"set_inode_field <{inode}> {name} {value}\n" for inode in inodes for name, value in fields]
    script.write_text("".join([f"set_current_time @{mtime}\n", *lines]))
    _run(("debugfs", "-w", "-f", str(script), str(part)), times)
    return part


def _copy(source: IO[bytes], start: int, length: int, sink: IO[bytes], offset: int) -> None:
    """Copy bytes from ``start`` to ``offset``; what is a hole in the one stays a hole in the other."""
    position, end = start, start + length
    while position < end:
        try:
            position = os.lseek(source.fileno(), position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        stop = min(os.lseek(source.fileno(), position, os.SEEK_HOLE), end)
        source.seek(position)
        sink.seek(offset + position - start)
        while position < stop and (piece := source.read(min(1 << 20, stop - position))):
            sink.write(piece)
            position += len(piece)


def _run(words: Sequence[str], environment: Mapping[str, str]) -> None:
    env = {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C", **environment}
    done = subprocess.run(list(words), env=env, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise TargetError(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}")
