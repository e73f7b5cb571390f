"""What steps remember from one run to the next: small values by key, one file each; losing any of it costs only time.

A step's output is an object of the ``store``; this is for parts of an output, such as the vectors of one document, that
a step may take over when it runs again because another part changed. Layout below the cache: ``memo/<salt>/ab/<hash>``,
each file the sha256 of its value and then the value (ccache and git's loose objects are built alike). Nothing is
flushed: a file that a power cut tore is a value that was not found.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

FOLDER = "memo"
_DIGEST = hashlib.sha256().digest_size
_TOUCH_AFTER = 3600.0
"""A value's time of use is written again after so many seconds, not at every read (as ``relatime`` does)."""


@dataclass(frozen=True, slots=True)
class Memo:
    """The values of one ``salt``; satisfies ``lsbuild.api.Memo``. Several processes may use one at the same time."""

    cache: Path
    salt: str

    def get(self, key: str) -> bytes | None:
        """The value, checked against its hash; None when there is none, or none that is whole."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                used = os.fstat(file.fileno()).st_mtime
                content = file.read()
        except OSError:
            return None
        data = content[_DIGEST:]
        if content[:_DIGEST] != hashlib.sha256(data).digest():
            return None
        if time.time() - used > _TOUCH_AFTER:
            with suppress(OSError):  # a read-only cache serves values too; it only forgets when
                os.utime(path)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep a value, by rename. A cache that cannot be written keeps nothing and is no error."""
        path = self._path(key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(hashlib.sha256(data).digest() + data)
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.cache / FOLDER / self.salt / name[:2] / name[2:]


class Value(NamedTuple):
    """One kept value: ``used`` in seconds since the epoch, ``size`` in bytes."""

    used: float
    size: int
    path: Path


def values(cache: Path) -> Iterator[Value]:
    """All that is kept for all salts, and what killed writers left."""
    for folder, _, names in os.walk(cache / FOLDER):
        for name in names:
            path = Path(folder, name)
            with suppress(OSError):  # another process prunes too
                status = path.stat()
                yield Value(status.st_mtime, status.st_size, path)
