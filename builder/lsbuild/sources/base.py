"""What a fetcher is given and what it gives back; the blob folder that all fetchers share.

A fetcher is ``fetch(rest, context) -> Source`` where ``rest`` is the URI after ``scheme:`` (and ``//``). Adding one is a
file in this folder and a line in the table of ``lsbuild.sources``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from lsbuild import disk
from lsbuild.api import Source, SourceFile
from lsbuild.errors import OfflineError, SourceError


@dataclass(frozen=True, slots=True)
class FetchContext:
    """Where a fetcher may look and write.

    ``root`` is the folder of the spec, ``cache`` that of lsbuild. ``pinned`` are the files that the lock names for this
    URI (their ``location`` is the blob, which may be absent), ``revision`` the locked revision. When ``offline`` is true
    a fetcher answers from blobs or raises ``missing()``; it opens no socket.
    """

    uri: str
    root: Path
    cache: Path
    offline: bool
    pinned: tuple[SourceFile, ...] | None
    revision: str
    progress: Callable[[int, int, str], None]

    def blob(self, sha256: str) -> Path | None:
        """The cached file with that hash, or None."""
        path = self._blob_path(sha256)
        return path if path.is_file() else None

    def _blob_path(self, sha256: str) -> Path:
        return self.cache / "blobs" / sha256[:2] / sha256

    def add(self, content: Path | IO[bytes], sha256: str | None = None) -> Path:
        """Keep a copy of ``content`` as a blob and return it. SourceError when its hash is not ``sha256``."""
        folder = self.cache / "blobs"
        with disk.explained(self.cache):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder, prefix=".")
            try:
                with os.fdopen(descriptor, "wb") as out:
                    digest = _copy(content, out)
                if sha256 is not None and digest != sha256:
                    raise self.damaged(digest, sha256)
                path = self._blob_path(digest)
                path.parent.mkdir(exist_ok=True)
                Path(name).chmod(0o444)
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
        return path

    def damaged(self, found: str, wanted: str) -> SourceError:
        """The error for bytes that are not the expected ones."""
        return SourceError(
            f"sha256 is {found[:16]}…, expected {wanted[:16]}…",
            where=self.uri,
            hint="The download is damaged or the file was replaced upstream; delete its entry in lsbuild.lock to accept it.",
        )

    def missing(self, what: str = "") -> OfflineError:
        """The error for ``--offline`` when something is not cached."""
        return OfflineError(
            f"{what or 'its files are'} not in the cache and --offline forbids to fetch",
            where=self.uri,
            hint="Build once without --offline on a machine with a network, with the same LSBUILD_CACHE and lsbuild.lock.",
        )

    def tree(self, files: Mapping[str, str]) -> tuple[SourceFile, ...]:
        """A folder in the cache that shows blobs (path -> sha256, all present) under their names; its files, sorted."""
        for path in files:
            if path.startswith("/") or ".." in path.split("/") or "\\" in path or "\0" in path:
                raise SourceError(f"the file name {path!r} leaves its folder", where=self.uri)
        listing = "".join(f"{path}\0{sha256}\n" for path, sha256 in sorted(files.items()))
        place = self.cache / "trees" / hashlib.sha256(listing.encode()).hexdigest()
        if not place.is_dir():
            self._plant(place, files)
        return tuple(
            SourceFile(path, place / path, sha256, (place / path).stat().st_size)
            for path, sha256 in sorted(files.items())
        )

    def _plant(self, place: Path, files: Mapping[str, str]) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=place.parent, prefix="."))
        for path, sha256 in files.items():
            target = fresh / path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(self._blob_path(sha256), target)
        try:
            fresh.rename(place)
        except OSError:
            # Another build planted the same tree meanwhile.
            shutil.rmtree(fresh)
            if not place.is_dir():
                raise


class Fetcher(Protocol):
    """One scheme's way to get files."""

    def __call__(self, rest: str, context: FetchContext) -> Source:
        """The files behind ``rest``, hashed. SourceError when they cannot be had, OfflineError when not offline."""
        ...


def _copy(content: Path | IO[bytes], out: IO[bytes]) -> str:
    digest = hashlib.sha256()
    stream = content.open("rb") if isinstance(content, Path) else content
    with stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()
