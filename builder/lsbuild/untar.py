"""Reads the members of a tar and refuses every one that could surprise; it writes nothing to disk."""

from __future__ import annotations

import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO

from lsbuild.archive import Member
from lsbuild.errors import SourceError

LIMIT = 4 << 30
"""Most bytes that one archive may unpack to."""


def members(stream: IO[bytes], where: str, limit: int = LIMIT) -> Iterator[Member]:
    """Files, links and folders of an uncompressed tar, paths relative to its root, in archive order.

    Files are read into memory; set-user-id bits are dropped; hard links become copies. Raises SourceError (at ``where``)
    for a path that leaves the root, a link that points out of it, a device or pipe, a member that comes twice, or an
    archive that unpacks to more than ``limit`` bytes.
    """
    seen: dict[str, Member] = {}
    total = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for info in tar:
                total += info.size
                if total > limit:
                    raise _refuse(where, info, f"the archive unpacks to more than {limit} bytes")
                member = _member(where, tar, info, seen)
                if member is None:
                    continue
                if member.path in seen and not (is_folder(member) and is_folder(seen[member.path])):
                    raise _refuse(where, info, "it comes twice")
                seen[member.path] = member
                yield member
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise SourceError(f"not a readable archive: {error}", where=where) from error


def is_folder(member: Member) -> bool:
    """Whether it is a directory."""
    return member.content is None and not member.link


def _member(where: str, tar: tarfile.TarFile, info: tarfile.TarInfo, seen: dict[str, Member]) -> Member | None:
    if ".." in info.name.split("/"):
        raise _refuse(where, info, "its name has a '..'")
    path = _inside(where, info, info.name)
    # The sticky bit of /tmp is the only one above the permissions that has a use in an image.
    mode = info.mode & (0o1777 if info.isdir() else 0o777)
    if not path:
        return None
    if info.isdir():
        return Member(path, mode=mode, owner=info.uid)
    if info.issym():
        start = "" if info.linkname.startswith("/") else posixpath.dirname(path)
        _inside(where, info, posixpath.join(start, info.linkname.lstrip("/")))
        return Member(path, link=info.linkname)
    if info.islnk():
        origin = seen.get(_inside(where, info, info.linkname))
        if origin is None or not isinstance(origin.content, bytes):
            raise _refuse(where, info, f"it is a hard link to {info.linkname!r}, which is no file of the archive")
        return Member(path, origin.content, origin.mode)
    content = tar.extractfile(info) if info.isreg() else None
    if content is None:
        raise _refuse(where, info, "it is a device, a pipe or something else that is no file")
    return Member(path, content.read(), mode)


def _inside(where: str, info: tarfile.TarInfo, path: str) -> str:
    """``./usr/bin/x`` -> ``usr/bin/x``; "" for the root itself."""
    plain = posixpath.normpath(path)
    if path.startswith("/") or plain == ".." or plain.startswith("../") or "\0" in path:
        raise _refuse(where, info, f"{path!r} leaves the root")
    return "" if plain == "." else plain


def _refuse(where: str, info: tarfile.TarInfo, why: str) -> SourceError:
    return SourceError(f"refused {info.name!r}: {why}", where=where)
