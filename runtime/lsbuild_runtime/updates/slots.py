"""Builds a version in the free slot: files that the device has are shared, the others are put together from parts.

A slot that is being built is named by no record; whoever breaks off leaves something that the next try takes away.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
from pathlib import Path

from lsbuild_runtime.updates.disk import Disk, clear, make_folders, pieces_of
from lsbuild_runtime.updates.errors import NotTrusted
from lsbuild_runtime.updates.format import PARTS, File, Part, Slice, Update, slices
from lsbuild_runtime.updates.having import Had

_APART = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
"""What link(2) says where a file cannot have a second name there: another file system or mount, or too many names."""


def build(update: Update, slot: Path, had: Had, incoming: Path, disk: Disk) -> None:
    """Leave exactly the files of ``update`` in ``slot``, all of it on the disk. Raises NotTrusted when bytes do not fit."""
    make_folders(disk, slot)
    clear(disk, slot)
    reader = _Parts(update, had, incoming / PARTS)
    for file, needed in slices(update):
        path = slot / file.path
        make_folders(disk, path.parent)
        there = had.files.get(file.sha256)
        if there is None:
            _assemble(file, needed, reader, path, disk)
        elif not _share(there, path, file.mode, disk):
            _copy(file, there, path, disk)
    disk.sync_all(slot)


def _share(there: Path, path: Path, mode: int, disk: Disk) -> bool:
    """Give a file that is there a second name; a mode belongs to all of its names, so it has to be the same."""
    if there.stat().st_mode & 0o7777 != mode:
        return False
    try:
        disk.link(there, path)
    except OSError as error:
        if error.errno in _APART:
            return False
        raise
    return True


def _copy(file: File, there: Path, path: Path, disk: Disk) -> None:
    digest = hashlib.sha256()
    disk.write(path, b"")
    for data in pieces_of(there):
        digest.update(data)
        disk.append(path, data)
    disk.set_mode(path, file.mode)
    _require(digest.hexdigest() == file.sha256, f"{there} changed while it was read: install the package again")


def _assemble(file: File, needed: tuple[Slice, ...], reader: _Parts, path: Path, disk: Disk) -> None:
    digest = hashlib.sha256()
    disk.write(path, b"")
    for each in needed:
        data = reader.read(each.part)[each.start : each.stop]
        digest.update(data)
        disk.append(path, data)
    disk.set_mode(path, file.mode)
    _require(digest.hexdigest() == file.sha256, f"{file.path} is not what was signed: the update was made wrongly")


class _Parts:
    """The content of parts, from what was fetched or from the files of another version; the last one is kept."""

    def __init__(self, update: Update, had: Had, folder: Path) -> None:
        self._parts = update.parts
        self._had = had
        self._folder = folder
        self._last = (-1, b"")

    def read(self, index: int) -> bytes:
        if self._last[0] != index:
            self._last = (index, self._content(self._parts[index]))
        return self._last[1]

    def _content(self, part: Part) -> bytes:
        here = self._had.pieces.get(part.sha256)
        if here is not None:
            path, at, size = here
            with path.open("rb") as stream:
                stream.seek(at)
                return stream.read(size)
        try:
            stored = (self._folder / part.name).read_bytes()
        except FileNotFoundError:
            raise NotTrusted(f"part {part.name[:16]} was not fetched") from None
        _require(
            hashlib.sha256(stored).hexdigest() == part.name, f"part {part.name[:16]} was damaged after it was fetched"
        )
        return stored if part.name == part.sha256 else _unpacked(stored, part)


def _unpacked(stored: bytes, part: Part) -> bytes:
    """At most the bytes that were signed for: a part cannot fill the memory."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=64 << 20)
    try:
        data = decompressor.decompress(stored, part.size + 1)
    except lzma.LZMAError as error:
        raise NotTrusted(f"part {part.name[:16]} cannot be unpacked: {error}") from error
    _require(len(data) == part.size, f"part {part.name[:16]} does not unpack to the {part.size} bytes that were signed")
    return data


def _require(fits: bool, otherwise: str) -> None:
    if not fits:
        raise NotTrusted(otherwise)
