"""Files, folders and globs beside the spec: found, contained and hashed, never copied.

Symbolic links are followed only within the folder that the spec may read. Hashes are remembered by size, times and
inode, so that a second build of a gigabyte reads none of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from lsbuild.api import Source, SourceFile
from lsbuild.errors import SourceError
from lsbuild.sources.base import FetchContext
from lsbuild.sources.globs import MAGIC, translate
from lsbuild.sources.hashes import Hashes

_PATIENCE = 0.5
"""Seconds of hashing after which progress is shown."""


def fetch(rest: str, context: FetchContext) -> Source:
    """The files that ``rest`` names: one file, all files below a folder (hidden ones not), or what a glob matches.

    Names within the source: a file's own name, the path below the folder, the path as the glob would spell it.
    """
    found = _glob(rest, context) if MAGIC.search(rest) else _plain(rest, context)
    hashes = Hashes(context.cache)
    start = time.monotonic()
    total = sum(path.stat().st_size for _, path in found)
    done = 0
    files = []
    for name, path in found:
        sha256, size = hashes.of(path)
        files.append(SourceFile(name, path, sha256, size))
        done += size
        if time.monotonic() - start > _PATIENCE:
            context.progress(done, total, f"hashing {name}")
    hashes.save()
    return Source(context.uri, tuple(files))


def _plain(rest: str, context: FetchContext) -> list[tuple[str, Path]]:
    place = _place(rest, context)
    if not place.exists():
        raise SourceError(
            "no such file or folder",
            where=rest,
            hint=f"Paths are relative to the folder of the spec ({context.root}); {_nearest(place)}",
        )
    _contained(place, _base(place, context), rest)
    if place.is_file():
        return [(place.name, place)]
    files = sorted((path.relative_to(place).as_posix(), path) for path in _walk(place, _base(place, context), rest))
    if not files:
        raise SourceError("the folder holds no files", where=rest)
    return files


def _glob(rest: str, context: FetchContext) -> list[tuple[str, Path]]:
    parts = Path(rest).parts
    fixed = next(index for index, part in enumerate(parts) if MAGIC.search(part))
    head = Path(*parts[:fixed]) if fixed else Path()
    top = _place(head, context)
    pattern = translate("/".join(parts[fixed:]))
    matches = []
    if top.is_dir():
        _contained(top, _base(top, context), rest)
        for path in _walk(top, _base(top, context), rest):
            below = path.relative_to(top).as_posix()
            if pattern.fullmatch(below):
                matches.append(((head / below).as_posix(), path))
    if not matches:
        raise SourceError(
            "no file matches",
            where=rest,
            hint=f"Globs are relative to the folder of the spec ({context.root}); ** means any number of folders.",
        )
    return sorted(matches)


def _place(rest: str | Path, context: FetchContext) -> Path:
    return Path(os.path.normpath(context.root.absolute() / Path(rest).expanduser()))


def _base(place: Path, context: FetchContext) -> Path:
    """The folder that symbolic links may not leave: the project's, or what a path outside of it names."""
    root = Path(os.path.normpath(context.root.absolute()))
    if place.is_relative_to(root):
        return root.resolve()
    return (place if place.is_dir() else place.parent).resolve()


def _contained(path: Path, base: Path, rest: str) -> None:
    real = path.resolve()
    if not real.is_relative_to(base):
        raise SourceError(
            f"{path.name} is a symbolic link to {real}, outside of {base}",
            where=rest,
            hint="Name the real path in the spec, or copy the file.",
        )


def _walk(folder: Path, base: Path, rest: str, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Every file below ``folder``; hidden entries are skipped, links are checked, circles of links are errors."""
    real = folder.resolve()
    if real in above:
        raise SourceError(f"{folder} is a symbolic link to a folder that contains it", where=rest)
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            if not entry.exists():
                raise SourceError(f"{entry} is a symbolic link to nothing", where=rest)
            _contained(entry, base, rest)
        if entry.is_dir():
            yield from _walk(entry, base, rest, (*above, real))
        elif entry.is_file():
            yield entry


def _nearest(place: Path) -> str:
    """What is there instead: the deepest folder above that exists."""
    above = place.parent
    while not above.exists():
        above = above.parent
    names = sorted(entry.name for entry in above.iterdir() if not entry.name.startswith(".")) if above.is_dir() else []
    return f"{above} holds {', '.join(names[:8]) or 'nothing'}{' ...' if len(names) > 8 else ''}"
