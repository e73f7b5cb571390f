"""sha256 of files, remembered in the cache by what a change of content cannot leave alone: size, times, inode."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import msgspec

from lsbuild import disk
from lsbuild.errors import SourceError

_SETTLED_NS = 2_000_000_000
"""A file younger than this may change again without a new time stamp, so it is hashed but not remembered (git's "racy")."""


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    stamp: tuple[int, int, int, int, int]
    sha256: str


class Hashes:
    """The memory of one fetch; ``save`` keeps what is new."""

    def __init__(self, cache: Path) -> None:
        self._place = cache / "hashes.json"
        self._new: dict[str, _Seen] = {}
        self._seen = self._read()

    def _read(self) -> dict[str, _Seen]:
        try:
            return msgspec.json.decode(self._place.read_bytes(), type=dict[str, _Seen])
        except (OSError, msgspec.MsgspecError):
            return {}

    def of(self, path: Path) -> tuple[str, int]:
        """(sha256, size) of a file; SourceError when it cannot be read."""
        try:
            status = path.stat()
            stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
            known = self._seen.get(str(path))
            if known is not None and known.stamp == stamp:
                return known.sha256, status.st_size
            with path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                size = os.fstat(stream.fileno()).st_size
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}", where=str(path)) from error
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
            self._new[str(path)] = _Seen(stamp, sha256)
        return sha256, size

    def save(self) -> None:
        """Keep what is new; a cache that cannot be written only costs time."""
        if not self._new:
            return
        kept = {name: seen for name, seen in {**self._read(), **self._new}.items() if _can_be_kept(name)}
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            disk.put(self._place, msgspec.json.encode(kept))
        except OSError:
            return


def _can_be_kept(name: str) -> bool:
    """Whether the file is there for this user, and its name is text: names of other encodings hold surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return os.path.exists(name)  # noqa: PTH110 - Path.exists raises for what may not be looked at
