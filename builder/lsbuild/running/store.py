"""Finished step outputs by content key: a folder is either complete or not there, whatever killed its writer.

It does not know what a step is. Layout below the cache: ``objects/ab/<key>/{out/, meta.json}``, ``tmp/`` for what is being
written, ``locks/`` for who writes. The ideas are osbuild's object store: get, or fill a fresh folder and commit by rename.
What steps remember (``memo``) lies beside the objects and is pruned with them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lsbuild import disk
from lsbuild.disk import Digest
from lsbuild.errors import StoreError
from lsbuild.running import memo
from lsbuild.running.memo import Memo

META = "meta.json"
FLUSHERS = 16
"""Files that are flushed at the same time at commit: the file system joins flushes, one after the other they are slow."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an object. ``seconds`` of wall and CPU time, ``rss`` bytes at the peak, ``facts`` of the step."""

    step: str
    facts: dict[str, Any] = {}
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    rss: int = 0
    size: int = 0
    files: dict[str, Digest] = {}


@dataclass(frozen=True, slots=True)
class Listed:
    """One object for ``lsbuild cache``: size in bytes, ``used`` as seconds since the epoch."""

    key: str
    step: str
    size: int
    used: float


class Store:
    """The object store below ``root`` (the cache folder). Several processes may use one store at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with disk.explained(root):
            for name in ("objects", "tmp", "locks", "logs"):
                (root / name).mkdir(parents=True, exist_ok=True)
            self._sweep()

    @classmethod
    def here(cls) -> Store:
        """The store that the environment of this process names (``disk.folder_from``)."""
        return cls(disk.folder_from(os.environ))

    def has(self, key: str) -> bool:
        """Whether a whole object is there: its meta is readable and every file has its size. Cheap: one stat a file."""
        try:
            meta = self.meta(key)
            out = self.path(key)
            return all((out / name).lstat().st_size == file.size for name, file in meta.files.items())
        except (OSError, StoreError):
            return False

    def path(self, key: str) -> Path:
        """The folder that the step wrote. Readers must not change it."""
        return self._object(key) / "out"

    def meta(self, key: str) -> Meta:
        """What was recorded at commit; StoreError when the object is missing or damaged."""
        place = self._object(key) / META
        try:
            return msgspec.json.decode(place.read_bytes(), type=Meta)
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreError(f"not readable: {error}", where=str(place), hint="Build again.") from error

    def use(self, key: str) -> Path:
        """``path(key)``, and remember that it was used now (for ``prune``)."""
        with suppress(OSError):  # a read-only cache serves objects too; it only forgets when
            os.utime(self._object(key) / META)
        return self.path(key)

    @contextmanager
    def claim(self, key: str) -> Iterator[Path]:
        """A fresh folder for the output of ``key``; waits while another process makes the same object.

        Look at ``has`` again after entering. The folder is removed on leaving unless it was committed.
        """
        with ExitStack() as stack:
            with disk.explained(self.root):
                stack.enter_context(disk.held(self.root / "locks" / key[:16]))
                room = stack.enter_context(self._room(key))
            yield room

    @contextmanager
    def _room(self, key: str) -> Iterator[Path]:
        with disk.held(self.root / "locks" / "tmp"):  # a sweep must not see a room whose owner is not locked yet
            room = Path(tempfile.mkdtemp(dir=self.root / "tmp", prefix=f"{key[:12]}."))
            owner = (room / "owner").open("w")
            fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            (room / "out").mkdir()
            yield room / "out"
        finally:
            owner.close()
            _remove(room)

    def commit(self, key: str, folder: Path, meta: Meta) -> Path:
        """Make ``folder`` (from ``claim``) the object ``key`` and return its final place.

        Files are hashed, flushed and made read-only first. An existing whole object wins; a damaged one is replaced.
        """
        with disk.explained(self.root, folder):
            paths = list(_files(folder))
            with ThreadPoolExecutor(FLUSHERS) as pool:
                files = {
                    path.relative_to(folder).as_posix(): seal
                    for path, seal in zip(paths, pool.map(_seal, paths), strict=True)
                }
            whole = msgspec.structs.replace(meta, files=files, size=sum(file.size for file in files.values()))
            fresh = folder.parent / "object"
            fresh.mkdir()
            folder.rename(fresh / "out")
            disk.put(fresh / META, msgspec.json.format(msgspec.json.encode(whole, order="deterministic")) + b"\n")
            with ThreadPoolExecutor(FLUSHERS) as pool:
                list(pool.map(disk.flush, [*_folders(fresh / "out"), fresh]))
            self._place(key, fresh)
        return self.path(key)

    def _place(self, key: str, fresh: Path) -> None:
        final = self._object(key)
        final.parent.mkdir(exist_ok=True)
        if final.exists() and not self.has(key):
            final.rename(fresh.parent / "damaged")
        try:
            fresh.rename(final)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not self.has(key):
                raise
        disk.flush(final.parent)

    def discard(self, key: str) -> None:
        """Forget an object."""
        with disk.explained(self.root):
            if self._object(key).exists():
                with self._room(key) as room:
                    self._object(key).rename(room.parent / "object")

    def memo(self, salt: str) -> Memo:
        """What steps of that salt (``Planned.memo``) remember."""
        return Memo(self.root, salt)

    def remembered(self) -> tuple[int, int]:
        """How many values steps remember, and their size in bytes."""
        sizes = [value.size for value in memo.values(self.root)]
        return len(sizes), sum(sizes)

    def clear(self) -> int:
        """Remove every object, all that steps remember and everything that was fetched; returns the bytes freed."""
        freed = self.prune(keep_bytes=-1)
        for name in (memo.FOLDER, "blobs", "trees", "plans", "logs"):
            place = self.root / name
            freed += sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) if name == "blobs" else 0
            _remove(place)
        (self.root / "logs").mkdir(exist_ok=True)
        return freed

    def verify(self, key: str) -> list[str]:
        """Read every byte of an object; one sentence for each file that differs from what was committed."""
        try:
            meta = self.meta(key)
        except StoreError as error:
            return [str(error)]
        out = self.path(key)
        lines = [
            f"{out / name}: missing or changed" for name, file in meta.files.items() if disk.digest(out / name) != file
        ]
        extra = {path.relative_to(out).as_posix() for path in _files(out)} - meta.files.keys()
        return lines + [f"{out / name}: not part of the object" for name in sorted(extra)]

    def objects(self) -> list[Listed]:
        """Every readable object, least recently used first."""
        found = []
        for place in self.root.glob("objects/??/*"):
            with suppress(StoreError, OSError):
                meta = self.meta(place.name)
                found.append(Listed(place.name, meta.step, meta.size, (place / META).stat().st_mtime))
        return sorted(found, key=lambda each: each.used)

    def prune(self, keep_bytes: int) -> int:
        """Remove the least recently used objects and remembered values until the rest fits; returns the bytes freed."""
        objects = [(each.used, each.size, each.key) for each in self.objects()]
        entries: list[tuple[float, int, str | Path]] = [*objects, *memo.values(self.root)]
        total = sum(size for _, size, _ in entries)
        freed = 0
        for _, size, what in sorted(entries, key=lambda entry: entry[0]):
            # An empty file, which a killed writer left, frees nothing and goes too.
            if size and total - freed <= keep_bytes:
                break
            if isinstance(what, Path):
                what.unlink(missing_ok=True)
            else:
                self.discard(what)
            freed += size
        return freed

    def log(self, step: str) -> Path:
        """Where a step's own output is kept: the last run's."""
        return self.root / "logs" / f"{step.replace('/', '_')}.log"

    def _object(self, key: str) -> Path:
        return self.root / "objects" / key[:2] / key

    def _sweep(self) -> None:
        """Remove what killed builds left in tmp: rooms whose owner file nobody holds a lock on."""
        rooms = list((self.root / "tmp").iterdir())
        if not rooms:
            return
        with suppress(OSError), disk.held(self.root / "locks" / "tmp"):
            for room in rooms:
                if _abandoned(room):
                    _remove(room)


def _abandoned(room: Path) -> bool:
    try:
        with (room / "owner").open("r+") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in (folder, *folder.rglob("*")) if path.is_dir() and not path.is_symlink())


def _seal(path: Path) -> Digest:
    if path.is_symlink() or not path.is_file():
        raise StoreError(
            "a step may only write plain files and folders", where=str(path), hint="Copy the file that the link names."
        )
    with path.open("rb") as stream:
        digest = Digest(hashlib.file_digest(stream, "sha256").hexdigest(), os.fstat(stream.fileno()).st_size)
        os.fsync(stream.fileno())
    path.chmod(0o555 if path.stat().st_mode & 0o111 else 0o444)
    return digest


def _remove(room: Path) -> None:
    shutil.rmtree(room, ignore_errors=True)
