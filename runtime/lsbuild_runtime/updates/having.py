"""What a device has already of a new version: files, and pieces of large files, found by their hashes; it changes nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lsbuild_runtime.updates.disk import pieces_of, sha256_of
from lsbuild_runtime.updates.format import PIECE, Update


class Had(NamedTuple):
    """sha256 -> where it lies: whole files, and (file, offset, size) of pieces."""

    files: dict[str, Path]
    pieces: dict[str, tuple[Path, int, int]]


def look(update: Update, folder: Path) -> Had:
    """Read what could be of use below ``folder``: bytes are compared, never names or times."""
    sizes = {file.size for file in update.files}
    wanted = {file.sha256 for file in update.files}
    wanted_pieces = {part.sha256 for part in update.parts}
    found = Had({}, {})
    for path, size in _walk(folder):
        name = sha256_of(path) if size in sizes else ""
        if name in wanted:
            found.files.setdefault(name, path)
        elif size > PIECE:
            for number, piece in enumerate(pieces_of(path, PIECE)):
                name = hashlib.sha256(piece).hexdigest()
                if name in wanted_pieces:
                    found.pieces[name] = path, number * PIECE, len(piece)
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, int]]:
    if not folder.is_dir():
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path), entry.stat(follow_symlinks=False).st_size
