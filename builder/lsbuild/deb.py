"""Reads a .deb (an ar archive with a compressed tar) and refuses every member that could surprise; it runs nothing of it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from lsbuild.archive import Member
from lsbuild.errors import SourceError

LIMIT = 2 << 30
"""Most bytes that one package may unpack to."""
_MAGIC = b"!<arch>\n"


def members(deb: Path) -> Iterator[Member]:
    """The files, links and folders of a package, paths relative to the root of the file system, in archive order.

    Set-user-id bits are dropped, hard links become copies. Raises SourceError for a path that leaves the root, a link
    that points out of it, a device or pipe, a file that comes twice, or a package that unpacks to more than LIMIT.
    """
    seen: dict[str, Member] = {}
    total = 0
    try:
        with _data(deb) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for info in tar:
                total += info.size
                if total > LIMIT:
                    raise _refuse(deb, info, f"the package unpacks to more than {LIMIT >> 30} GiB")
                member = _member(deb, tar, info, seen)
                if member is None:
                    continue
                if member.path in seen and not (_is_folder(member) and _is_folder(seen[member.path])):
                    raise _refuse(deb, info, "it comes twice")
                seen[member.path] = member
                yield member
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise SourceError(f"not a readable .deb: {error}", where=deb.name) from error


def _member(deb: Path, tar: tarfile.TarFile, info: tarfile.TarInfo, seen: dict[str, Member]) -> Member | None:
    path = _inside(deb, info, info.name)
    mode = info.mode & 0o777
    if not path:
        return None
    if info.isdir():
        return Member(path, mode=mode)
    if info.issym():
        start = "" if info.linkname.startswith("/") else posixpath.dirname(path)
        _inside(deb, info, posixpath.join(start, info.linkname.lstrip("/")))
        return Member(path, link=info.linkname)
    if info.islnk():
        origin = seen.get(_inside(deb, info, info.linkname))
        if origin is None or not isinstance(origin.content, bytes):
            raise _refuse(deb, info, f"it is a hard link to {info.linkname!r}, which is no file of the package")
        return Member(path, origin.content, origin.mode)
    content = tar.extractfile(info) if info.isreg() else None
    if content is None:
        raise _refuse(deb, info, "it is a device, a pipe or something else that is no file")
    return Member(path, content.read(), mode)


def _inside(deb: Path, info: tarfile.TarInfo, path: str) -> str:
    """``./usr/bin/x`` -> ``usr/bin/x``; "" for the root itself."""
    plain = posixpath.normpath(path)
    if path.startswith("/") or plain == ".." or plain.startswith("../") or "\0" in path:
        raise _refuse(deb, info, f"{path!r} leaves the root")
    if ".." in path.split("/") and path == info.name:
        raise _refuse(deb, info, "its name has a '..'")
    return "" if plain == "." else plain


def _is_folder(member: Member) -> bool:
    return member.content is None and not member.link


def _refuse(deb: Path, info: tarfile.TarInfo, why: str) -> SourceError:
    return SourceError(f"refused {info.name!r} of a package: {why}", where=deb.name)


def _data(deb: Path) -> IO[bytes]:
    """The uncompressed stream of ``data.tar.*``."""
    with deb.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise SourceError("not a .deb: it does not begin like an ar archive", where=deb.name)
        while header := stream.read(60):
            name, size = header[:16].decode("latin-1").strip().rstrip("/"), header[48:58].strip()
            if len(header) != 60 or header[58:] != b"`\n" or not size.isdigit():
                raise SourceError("not a .deb: a damaged ar header", where=deb.name)
            if name.startswith("data.tar"):
                return _unpacked(name, stream.read(int(size)), deb)
            stream.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise SourceError("not a .deb: it has no data.tar", where=deb.name)


def _unpacked(name: str, data: bytes, deb: Path) -> IO[bytes]:
    kind = name.removeprefix("data.tar").lstrip(".")
    if kind == "":
        return io.BytesIO(data)
    if kind == "xz":
        return lzma.open(io.BytesIO(data))
    if kind == "gz":
        return gzip.open(io.BytesIO(data))
    if kind == "bz2":
        return bz2.open(io.BytesIO(data))
    tool = shutil.which("zstd") if kind == "zst" else None
    if tool is None:
        raise SourceError(f"cannot read {name}", where=deb.name, hint="apt-get install zstd" if kind == "zst" else "")
    done = subprocess.run([tool, "-dcq", f"-M{LIMIT >> 20}MB"], input=data, capture_output=True, check=False)  # noqa: S603
    if done.returncode or len(done.stdout) > LIMIT:
        raise SourceError(f"cannot unpack {name}: {done.stderr.decode(errors='replace')[:200]}", where=deb.name)
    return cast("IO[bytes]", io.BytesIO(done.stdout))
