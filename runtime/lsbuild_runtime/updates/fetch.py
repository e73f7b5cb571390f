"""Brings parts of an update into ``incoming``; what is there already, whole or in part, is not fetched again.

A part counts when its bytes have the hash that was signed. None is synced to the disk: after a power cut a torn one is
found by its hash and fetched again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lsbuild_runtime.updates.disk import Disk, make_folders, sha256_of
from lsbuild_runtime.updates.errors import NotReached, NotTrusted
from lsbuild_runtime.updates.format import PARTS, Part
from lsbuild_runtime.updates.sources import Source

RETRIES = 5
"""How often in a row a source may break off without a new byte."""
Progress = Callable[[int, int], None]
"""Told bytes that are here and bytes that are wanted."""


def fetch(
    parts: Sequence[Part], source: Source, incoming: Path, disk: Disk, wait: Callable[[float], None], progress: Progress
) -> None:
    """Fetch what is missing of ``parts``. Raises NotReached, NotTrusted; what was fetched stays."""
    folder = incoming / PARTS
    make_folders(disk, folder)
    total, done = sum(part.stored for part in parts), 0
    for part in parts:
        if not is_whole(folder / part.name, part):
            _fetch(part, source, folder, disk, wait)
        done += part.stored
        progress(done, total)


def is_whole(path: Path, part: Part) -> bool:
    """Whether the part lies at ``path`` with the bytes that were signed."""
    return path.is_file() and path.stat().st_size == part.stored and sha256_of(path) == part.name


def tidy(parts: Sequence[Part], incoming: Path, disk: Disk) -> None:
    """Take away what belongs to other updates."""
    names = {part.name for part in parts}
    folder = incoming / PARTS
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.removesuffix(".part") not in names:
            disk.remove(path)


def _fetch(part: Part, source: Source, folder: Path, disk: Disk, wait: Callable[[float], None]) -> None:
    partial = folder / f"{part.name}.part"
    failed = 0
    while True:
        before = _size(partial)
        try:
            resumed = _read(part, source, partial, disk)
        except NotReached:
            # A link that is slow or breaks often still gets there, as long as something comes through each time.
            failed = 0 if _size(partial) > before else failed + 1
            if failed == RETRIES:
                raise
            wait(float(2**failed))
            continue
        if is_whole(partial, part):
            disk.rename(partial, folder / part.name)
            return
        disk.remove(partial)
        if not resumed:
            raise NotTrusted(f"{source.where}: part {part.name[:16]} is not what was signed: it was changed or damaged")


def _read(part: Part, source: Source, partial: Path, disk: Disk) -> bool:
    """Read the rest of a part; returns whether bytes of an earlier try were kept. Raises NotReached when less came."""
    have = _size(partial)
    if have >= part.stored:
        return have > 0
    stream = source.read(part, have)
    if stream is None:
        raise NotTrusted(
            f"{source.where}: part {part.name[:16]} is not there; a bundle that was made --from another version needs that "
            "version on the device: take the full one"
        )
    if stream.start != have:
        disk.write(partial, b"")
    size = stream.start
    for data in stream.chunks:
        size += len(data)
        if size > part.stored:
            raise NotTrusted(f"{source.where}: part {part.name[:16]} is longer than what was signed")
        disk.append(partial, data)
    if size < part.stored:
        raise NotReached(f"{source.where}: part {part.name[:16]} broke off after {size} of {part.stored} bytes")
    return stream.start > 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
