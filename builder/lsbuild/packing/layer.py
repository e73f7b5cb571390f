"""Reads the layers of an image: any compression, whiteouts, hard links; what could surprise is refused.

A layer is a tar that changes what lies below it (opencontainers/image-spec, layer.md). Nothing is written outside the folder
that is given, and nothing through a symbolic link.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from lsbuild.errors import SourceError
from lsbuild.packing import zstd

LIMIT = 16 << 30
"""Most bytes that one layer may unpack to."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GONE, _OPAQUE = ".wh.", ".wh..wh..opq"
_CHUNK = 1 << 20

Kind = Literal["file", "folder", "link", "hard", "gone", "opaque"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer. ``path`` is relative; ``gone`` takes away what lies there below, ``opaque`` all inside a folder.

    ``target`` is what a symbolic link says, or the path of the file that a hard link is.
    """

    path: str
    kind: Kind
    target: str = ""
    mode: int = 0o755
    owner: int = 0


class Plain:
    """The uncompressed bytes of a layer, hashed as they are read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The layer's diff_id, once everything was read."""
        while self.read(_CHUNK):
            pass
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        """Like a file's."""
        data = self._source.read(size)
        self._hash.update(data)
        return data


@contextmanager
def opened(path: Path, where: str) -> Iterator[Plain]:
    """A layer, whatever it is packed with (gzip, zstd, nothing). SourceError when it is damaged."""
    with path.open("rb") as raw, _explained(where):
        magic = raw.read(4)
        raw.seek(0)
        if magic[:2] == _GZIP:
            with gzip.open(raw) as packed:
                yield Plain(cast("IO[bytes]", packed))
        elif magic == _ZSTD:
            with zstd.opened(path, where, SourceError) as unpacked:
                yield Plain(unpacked)
        else:
            yield Plain(raw)


def entries(stream: Plain, where: str) -> Iterator[tuple[Entry, IO[bytes] | None]]:
    """Each entry, and the content of a file, in the order of the layer. Raises SourceError for what leaves the root."""
    total = 0
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar:
        for info in tar:
            total += info.size
            if total > LIMIT:
                raise _refuse(where, info.name, f"the layer unpacks to more than {LIMIT >> 30} GiB")
            entry = _entry(where, info)
            if entry is not None:
                yield entry, tar.extractfile(info) if entry.kind == "file" else None


def unpack(path: Path, root: Path, where: str) -> str:
    """Change what lies in ``root`` as the layer at ``path`` says; returns its diff_id. Raises SourceError."""
    written: set[Path] = set()
    with opened(path, where) as stream:
        for entry, reader in entries(stream, where):
            place = root / entry.path
            above = [parent for parent in place.parents if parent != root and parent.is_relative_to(root)]
            if any(each.is_symlink() for each in above):
                raise _refuse(where, entry.path, "it goes through a link")
            if entry.kind == "gone":
                _remove(place)
            elif entry.kind == "opaque":
                for child in place.iterdir() if place.is_dir() else ():
                    if child not in written:
                        _remove(child)
            else:
                _write(entry, reader, place, root, where)
                written |= {place, *above}
        return stream.digest


def _write(entry: Entry, reader: IO[bytes] | None, place: Path, root: Path, where: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if entry.kind == "folder":
        if place.is_symlink() or not place.is_dir():
            _remove(place)
            place.mkdir()
        place.chmod(entry.mode)
        if os.geteuid() == 0:
            os.chown(place, entry.owner, entry.owner)
        return
    _remove(place)
    if entry.kind == "link":
        place.symlink_to(entry.target)
    elif entry.kind == "hard":
        source = root / entry.target
        if (
            any(each.is_symlink() for each in (source, *source.parents) if each.is_relative_to(root))
            or not source.is_file()
        ):
            raise _refuse(where, entry.path, f"it is a hard link to {entry.target!r}, which is no file before it")
        place.hardlink_to(source)
    elif reader is not None:
        with place.open("xb") as sink:
            shutil.copyfileobj(reader, sink, _CHUNK)
        place.chmod(entry.mode)


def _entry(where: str, info: tarfile.TarInfo) -> Entry | None:
    """None for the root itself, and for devices: those in ``/dev`` come from whoever runs the container."""
    path = _inside(where, info.name, info.name)
    folder, name = posixpath.split(path)
    if not path:
        return None
    if name == _OPAQUE:
        return Entry(folder, "opaque")
    if name.startswith(_GONE):
        if name.removeprefix(_GONE) in ("", ".", ".."):
            raise _refuse(where, info.name, "it takes away what is no name")
        return Entry(posixpath.join(folder, name.removeprefix(_GONE)), "gone")
    if info.issym():
        start = "" if info.linkname.startswith("/") else folder
        _inside(where, info.name, posixpath.join(start, info.linkname.lstrip("/")))
        return Entry(path, "link", info.linkname)
    if info.islnk():
        return Entry(path, "hard", _inside(where, info.name, info.linkname))
    if info.isdir():
        return Entry(path, "folder", mode=info.mode & 0o1777, owner=info.uid)
    if info.isreg():
        return Entry(path, "file", mode=info.mode & 0o777, owner=info.uid)
    if path.startswith("dev/"):
        return None
    raise _refuse(where, info.name, "it is a device, a pipe or something else that is no file")


def _inside(where: str, name: str, path: str) -> str:
    """``./usr/bin/x`` and ``/usr/bin/x`` -> ``usr/bin/x``; "" for the root itself."""
    plain = posixpath.normpath(path.lstrip("/") or ".")
    if plain == ".." or plain.startswith("../") or "\0" in path:
        raise _refuse(where, name, f"{path!r} leaves the root")
    return "" if plain == "." else plain


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise SourceError(f"not a readable layer: {error}", where=where) from error


def _refuse(where: str, name: str, why: str) -> SourceError:
    return SourceError(f"refused {name!r}: {why}", where=where)
