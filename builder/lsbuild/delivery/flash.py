"""Writes an image to a block device or a file, and reads it back; refuses every device that somebody may miss.

It looks before it writes: nothing is opened for writing until every check has passed. What is known of a device comes from
sysfs and ``/proc``, which tests replace.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from lsbuild.errors import TargetError, VerifyError
from lsbuild.packing import zstd

CHUNK = 4 << 20
_SUFFIXES = (".img", ".img.zst", ".img.gz", ".img.xz")
_SECTOR = 512
_SIGNATURE = 510
"""Where a partition table of either kind has the bytes 55 AA."""

Progress = Callable[[str, int, int], None]
"""(``writing`` or ``reading back``, bytes so far, bytes in all; 0 when nobody knows)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the kernel tells about devices."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")


@dataclass(frozen=True, slots=True)
class Device:
    """A block device. ``parts`` are its own name and those of its partitions and of what is built upon them."""

    path: Path
    name: str
    size: int
    read_only: bool
    removable: bool
    parts: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Flashed:
    """What was written: bytes and sha256 of the image as it stands on the device."""

    size: int
    sha256: str


def flash(image: Path, to: Path, *, yes: bool, progress: Progress, machine: Machine | None = None) -> Flashed:
    """Write ``image`` (.img, or compressed .img.zst, .img.gz, .img.xz) to ``to`` and compare what is read back.

    ``yes`` allows a device that is not removable, and a file that exists. Raises TargetError before anything is written
    when the device must not be touched, VerifyError when the image is damaged or the device holds other bytes in the end.
    """
    size = measure(image)
    target = _checked(to, size, yes=yes, machine=machine or Machine())
    # O_EXCL on a block device: the kernel itself refuses one that somebody holds.
    flags = os.O_RDWR | (os.O_EXCL if target is not None else os.O_CREAT | os.O_TRUNC)
    try:
        descriptor = os.open(to, flags, 0o644)
    except OSError as error:
        raise TargetError(f"cannot be written: {error.strerror}", where=str(to), hint=_way_in(error)) from error
    try:
        with os.fdopen(descriptor, "r+b", buffering=0) as out, opened(image) as source:
            written = _write(source, out, size, progress)
            _compare(out, written, progress)
    except OSError as error:
        raise VerifyError(
            f"writing ended in an error: {error.strerror or error}", where=str(to), hint="it holds half an image now"
        ) from error
    return written


def measure(image: Path) -> int:
    """Bytes of the image, uncompressed. Raises VerifyError when it is damaged or no image of a disk."""
    if not image.is_file():
        raise VerifyError("there is no such image", where=str(image))
    if not image.name.endswith(_SUFFIXES):
        raise VerifyError(
            "is no image of a disk", where=str(image), hint=f"its name ends in one of {', '.join(_SUFFIXES)}"
        )
    size = 0
    with opened(image) as stream:
        while piece := stream.read(CHUNK):
            if size == 0 and piece[_SIGNATURE:_SECTOR] != b"\x55\xaa":
                raise VerifyError("has no partition table, so nothing boots from it", where=str(image))
            size += len(piece)
    if size == 0 or size % _SECTOR:
        raise VerifyError(f"has {size:,} bytes, which is no number of whole sectors", where=str(image))
    return size


@contextlib.contextmanager
def opened(image: Path) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of an image. VerifyError when they end early or are damaged."""
    import gzip
    import lzma
    import zlib

    readers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
    try:
        if image.suffix == ".zst":
            with zstd.opened(image, str(image), VerifyError) as stream:
                yield stream
        else:
            with readers.get(image.suffix, open)(image, "rb") as stream:
                yield cast("IO[bytes]", stream)
    except (lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise VerifyError(f"is damaged: {error}", where=str(image), hint="build or download it again") from error


def device(path: Path, machine: Machine) -> Device | None:
    """What the kernel knows of the block device at ``path``; None for a file, or where there is nothing yet."""
    try:
        mode = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISBLK(mode.st_mode):
        return None
    name = (machine.sys / "dev/block" / f"{os.major(mode.st_rdev)}:{os.minor(mode.st_rdev)}").resolve().name
    return described(path, name, machine)


def described(path: Path, name: str, machine: Machine) -> Device:
    """The device that the kernel calls ``name``."""
    folder = (machine.sys / "class/block" / name).resolve()
    whole = folder.parent if (folder / "partition").exists() else folder
    parts = {name, *(each.parent.name for each in folder.glob("*/partition"))}
    waiting = list(parts)
    while waiting:  # a volume of LVM or a decrypted disk lies upon a partition
        holders = {each.name for each in (machine.sys / "class/block" / waiting.pop() / "holders").glob("*")}
        waiting += holders - parts
        parts |= holders
    return Device(
        path=path,
        name=name,
        size=int((folder / "size").read_text()) * _SECTOR,
        read_only=(folder / "ro").read_text().strip() == "1",
        removable=(whole / "removable").read_text().strip() == "1" or _is_card(whole),
        parts=frozenset(parts),
    )


def _is_card(folder: Path) -> bool:
    """SD cards in a built-in reader and disks on USB are not called removable, and yet they are."""
    type_file = folder / "device/type"
    return "/usb" in str(folder) or (type_file.is_file() and type_file.read_text().strip() == "SD")


def _checked(to: Path, size: int, *, yes: bool, machine: Machine) -> Device | None:
    found = device(to, machine)
    if found is None:
        _check_file(to, size, yes=yes)
        return None
    check_device(found, size, yes=yes, machine=machine)
    return found


def check_device(found: Device, size: int, *, yes: bool, machine: Machine) -> None:
    """Raise TargetError unless ``size`` bytes may be written to the device."""
    where = str(found.path)
    used = sorted((name, place) for name, place in _uses(machine) if name in found.parts)
    system = {place for _, place in used if place in ("/", "/boot", "/boot/firmware", "/boot/efi", "/usr", "swap")}
    if system:
        raise TargetError(
            f"is a disk of this very system ({', '.join(sorted(system))})", where=where, hint="name the card"
        )
    if used:
        name, place = used[0]
        raise TargetError(f"is in use: {name} is mounted at {place}", where=where, hint=f"umount {place}")
    if found.read_only:
        raise TargetError("is read-only", where=where, hint="a card may have a little switch at its side")
    if found.size < size:
        raise TargetError(f"has {found.size:,} bytes, the image needs {size:,}", where=where, hint="take a larger card")
    if not found.removable and not yes:
        raise TargetError(
            f"is not removable ({found.size / 1e9:.1f} GB)",
            where=where,
            hint="all of it would be lost; --yes if that is meant",
        )


def _check_file(to: Path, size: int, *, yes: bool) -> None:
    if to.is_dir():
        raise TargetError("is a folder", where=str(to), hint="name a device like /dev/sdX, or a file")
    if to.exists() and not to.is_file():
        raise TargetError("is neither a file nor a block device", where=str(to))
    if to.is_file() and not yes:
        raise TargetError("exists", where=str(to), hint="--yes replaces it")
    if not to.exists() and to.parent.resolve() == Path("/dev"):
        raise TargetError("there is no such device", where=str(to), hint="`lsblk` lists those that there are")
    if not to.parent.is_dir():
        raise TargetError("its folder does not exist", where=str(to))
    free = shutil.disk_usage(to.parent).free
    if free < size:
        raise TargetError(f"{free:,} bytes are free there, the image needs {size:,}", where=str(to))


def _uses(machine: Machine) -> Iterator[tuple[str, str]]:
    """(kernel's name of a device, where it is mounted or ``swap``), for everything in use."""
    for line in (machine.proc / "self/mountinfo").read_text().splitlines():
        words = line.split()
        block = machine.sys / "dev/block" / words[2]
        if block.exists():
            yield block.resolve().name, words[4].replace("\\040", " ")
        source = words[words.index("-") + 2]
        if source.startswith("/dev/"):  # btrfs says a number of its own
            yield Path(source).resolve().name, words[4].replace("\\040", " ")
    for line in (machine.proc / "swaps").read_text().splitlines()[1:]:
        yield Path(line.split()[0]).resolve().name, "swap"


def _write(source: IO[bytes], out: io.FileIO, size: int, progress: Progress) -> Flashed:
    digest, done = hashlib.sha256(), 0
    while piece := source.read(CHUNK):
        view = memoryview(piece)
        while view:
            view = view[out.write(view) or 0 :]
        digest.update(piece)
        done += len(piece)
        progress("writing", done, size)
    os.fsync(out.fileno())
    return Flashed(done, digest.hexdigest())


def _compare(out: io.FileIO, written: Flashed, progress: Progress) -> None:
    """Read it back from the device itself: what the kernel kept in memory is dropped first."""
    os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    out.seek(0)
    digest, done = hashlib.sha256(), 0
    while done < written.size and (piece := out.read(min(CHUNK, written.size - done))):
        digest.update(piece)
        done += len(piece)
        progress("reading back", done, written.size)
    if digest.hexdigest() != written.sha256:
        raise VerifyError(
            "what is read back is not what was written",
            hint="the card is damaged, or smaller than it says: take another",
        )
    with contextlib.suppress(OSError):
        fcntl.ioctl(out.fileno(), 0x125F)  # BLKRRPART: have the kernel see the new partitions; a file has none


def _way_in(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "writing to a device needs root: sudo"
    return "somebody uses it: unmount its partitions" if error.errno == 16 else ""
