"""Holds native files against a platform: word size, machine, glibc, and the x86-64 level that they were compiled for."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lsbuild.api import Bundle
from lsbuild.errors import TargetError
from lsbuild.packing import elf

_BITS = 64


@dataclass(frozen=True, slots=True)
class Found:
    """What the native files together need."""

    count: int
    glibc: str
    level: int
    """Highest x86-64 level that one of them says it needs; 0 when none says."""


def require(roots: Iterable[Path], arch: str, glibc: str, level: int) -> Found:
    """Check every ELF file below ``roots``; raises TargetError for the first that cannot run on the platform.

    Args:
        arch: machine as the kernel names it, ``x86_64`` or ``aarch64``.
        glibc: version that the platform has, "2.34".
        level: micro-architecture level of its processors (the x86-64 psABI's v1 to v4); not looked at elsewhere.
    """
    count, newest, highest = 0, (0, 0), 0
    for name, path in _files(roots):
        found = _read(name, path)
        if found is None:
            continue
        _require_one(name, found, arch, glibc, level)
        count += 1
        newest, highest = max(newest, found.glibc), max(highest, found.level)
    return Found(count, f"{newest[0]}.{newest[1]}", highest)


def check(bundle: Bundle) -> None:
    """Hold the native files of a bundle against its platform; those of wheels were when they were unpacked."""
    platform = bundle.platform
    for file in bundle.files:
        if file.part != "wheels" and isinstance(file.content, Path) and (found := _read(file.path, file.content)):
            _require_one(file.path, found, platform.arch, platform.glibc, platform.level)


def require_pages(files: Iterable[tuple[str, Path]], page: int) -> int:
    """Check that a kernel with pages of ``page`` bytes can map every native file (name, path); returns their number.

    Raises TargetError: the loader of such a kernel would refuse it with "ELF load command alignment not page-aligned".
    """
    count = 0
    for name, path in files:
        found = _read(name, path)
        if found is None:
            continue
        if found.page and found.page < page:
            raise TargetError(
                f"is aligned to {found.page} bytes, and the kernel's pages have {page}",
                where=name,
                hint="Pin a wheel that was linked for larger pages (-z max-page-size=65536).",
            )
        count += 1
    return count


def require_libraries(bundle: Bundle, there: Collection[str], where: str) -> None:
    """Check that every library that native files of the bundle look for is among them or among ``there`` (file names).

    Raises TargetError for the first that nobody brings.
    """
    brought = {*there, *(posixpath.basename(file.path) for file in bundle.files)}
    for file in bundle.files:
        if not isinstance(file.content, Path) or _read(file.path, file.content) is None:
            continue
        needed = elf.needed(file.content)
        missing = next((name for name in needed if name not in brought), "")
        if missing:
            raise TargetError(
                f"{file.path} needs {missing}, and the base has none",
                where=where,
                hint="Take a base that has it (of Debian: libstdc++6, libgcc-s1, zlib1g), or leave `image` out.",
            )


def _files(roots: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(root).as_posix(), path


def _read(name: str, path: Path) -> elf.Elf | None:
    try:
        return elf.read(path)
    except ValueError as error:
        raise TargetError(str(error), where=name, hint="The wheel is damaged: pin another version.") from error


def _require_one(name: str, found: elf.Elf, arch: str, glibc: str, level: int) -> None:
    if found.bits != _BITS or found.machine != arch:
        raise TargetError(
            f"is built for {found.bits}-bit {found.machine}, the platform is {arch}",
            where=name,
            hint="Of a wheel, pin another version: its file name promises what it does not hold.",
        )
    if found.glibc > _version(glibc):
        raise TargetError(
            f"needs glibc {found.glibc[0]}.{found.glibc[1]}, the platform has {glibc}",
            where=name,
            hint="Pin an older version of the wheel, or choose a base with a newer glibc.",
        )
    if found.level > level:
        raise TargetError(
            f"needs a processor of level x86-64-v{found.level}, the platform promises v{level}",
            where=name,
            hint="Pin a wheel that was compiled for every processor; such files crash with an illegal instruction.",
        )


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)
