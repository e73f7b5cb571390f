"""The one door to the disk for all that an update changes; nothing here decides what is changed, or in which order.

Whatever has to survive a power cut is written through a ``Disk``, so that a test can cut the power between any two of its
operations. What only reads goes to the file system directly.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsbuild_runtime.updates.errors import NoRoom

_CHUNK = 1 << 20


class Disk:
    """Operations, each as large as one call of the system. OSError as that raises it."""

    def write(self, path: Path, data: bytes) -> None:
        """Make a file, or empty one, and write to it."""
        with path.open("wb") as stream:
            stream.write(data)

    def append(self, path: Path, data: bytes) -> None:
        """Write at the end of a file, which is made when it is not there."""
        with path.open("ab") as stream:
            stream.write(data)

    def sync_file(self, path: Path) -> None:
        """Have the bytes of a file on the disk before this returns."""
        _fsync(path, os.O_RDONLY)

    def sync_folder(self, path: Path) -> None:
        """Have the names in a folder on the disk before this returns."""
        _fsync(path, os.O_RDONLY | os.O_DIRECTORY)

    def sync_all(self, path: Path) -> None:
        """Have all of the file system that ``path`` is in on the disk before this returns: one wait for thousands of files."""
        handle = os.open(path, os.O_RDONLY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(handle) != 0:  # unlike os.sync() it tells of what could not be written
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(path))
        finally:
            os.close(handle)

    def rename(self, path: Path, to: Path) -> None:
        """Give a file another name; what had it before is gone, at no moment is there none."""
        path.rename(to)

    def link(self, path: Path, to: Path) -> None:
        """Give a file one more name."""
        to.hardlink_to(path)

    def symlink(self, path: Path, to: str) -> None:
        """Make a symbolic link at ``path``."""
        path.symlink_to(to)

    def remove(self, path: Path) -> None:
        """Take a name away."""
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """Make a folder that everybody can read."""
        path.mkdir()
        path.chmod(0o755)

    def remove_folder(self, path: Path) -> None:
        """Take an empty folder away."""
        path.rmdir()

    def set_mode(self, path: Path, mode: int) -> None:
        """Set the permission bits of a file, whatever the umask made of them."""
        path.chmod(mode)


def pieces_of(path: Path, size: int = _CHUNK) -> Iterator[bytes]:
    """The bytes of a file, ``size`` at a time."""
    with path.open("rb") as stream:
        while data := stream.read(size):
            yield data


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_folders(disk: Disk, path: Path) -> None:
    """Make a folder and those above it that are not there."""
    if not path.is_dir():
        make_folders(disk, path.parent)
        disk.make_folder(path)


def clear(disk: Disk, folder: Path) -> None:
    """Take all away that is below a folder, which stays."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            clear(disk, path)
            disk.remove_folder(path)
        else:
            disk.remove(path)


def replace(disk: Disk, path: Path, data: bytes) -> None:
    """Put a file in the place of another in one step: after a power cut it is the old one or the new one."""
    new = path.with_name(f"{path.name}.new")
    disk.write(new, data)
    disk.sync_file(new)
    disk.rename(new, path)
    disk.sync_folder(path.parent)


@contextmanager
def explained(where: Path) -> Iterator[None]:
    """Turn what the disk refuses into NoRoom."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(f"the disk of {where} is full; make room and try again, what was fetched is kept") from error
        if error.errno in (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM):
            place = error.filename or where
            raise NoRoom(f"{place} cannot be written: {error.strerror}; what serves was not touched") from error
        raise


def _fsync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
