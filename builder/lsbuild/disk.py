"""What all that is kept on disk needs: digests, whole-or-nothing writes, locks, and errors with a way out.

It knows neither store nor lock file; it is the floor below both.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from lsbuild.errors import StoreError


class Digest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: lower-case hex sha256, size in bytes."""

    sha256: str
    size: int


@contextmanager
def explained(root: Path, folder: Path | None = None) -> Iterator[None]:
    """Turn what the operating system says about the cache into a StoreError with the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise full(root, folder) from error
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise StoreError(
                f"the cache cannot be written: {error.strerror}",
                where=str(root),
                hint="Set LSBUILD_CACHE to a folder that you may write.",
            ) from error
        raise StoreError(f"the cache cannot be used: {error}", where=str(root)) from error


def full(root: Path, folder: Path | None) -> StoreError:
    """The error for a full disk, with what is free and what is needed."""
    needed = _size(folder) if folder is not None else 0
    with suppress(OSError):
        free = shutil.disk_usage(root).free
        return StoreError(
            f"no space left: {free:,} bytes are free" + (f", the step wrote {needed:,} so far" if needed else ""),
            where=str(root),
            hint="Free some space (`lsbuild cache prune`), or set LSBUILD_CACHE to a larger disk.",
        )
    return StoreError("no space left", where=str(root), hint="Set LSBUILD_CACHE to a larger disk.")


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` among all processes; the kernel lets go of it when we are killed."""
    with path.open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def digest(path: Path) -> Digest | None:
    """sha256 and size of a file, or None when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return Digest(hashlib.file_digest(stream, "sha256").hexdigest(), os.fstat(stream.fileno()).st_size)
    except OSError:
        return None


def put(path: Path, data: bytes) -> None:
    """Write ``data`` at ``path``, flushed and by rename: a reader sees the old file or the new one. OSError passes."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def flush(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_from(environ: Mapping[str, str]) -> Path:
    """The cache folder: LSBUILD_CACHE, else ``$XDG_CACHE_HOME/lsbuild``, else ``~/.cache/lsbuild``."""
    if named := environ.get("LSBUILD_CACHE"):
        return Path(named).expanduser().absolute()
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".cache")
    return Path(base) / "lsbuild"
