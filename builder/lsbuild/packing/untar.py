"""Reads the members of a tar and refuses every one that could surprise."""

from __future__ import annotations

import lzma
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from lsbuild.errors import SourceError
from lsbuild.packing.archive import Member

LIMIT = 4 << 30
"""Most bytes that one archive may unpack to."""


def members(stream: IO[bytes], where: str, limit: int = LIMIT) -> Iterator[Member]:
    """Files, links and folders of an uncompressed tar, paths relative to its root, in archive order.

    Files are read into memory; set-user-id bits are dropped; hard links become copies. Raises SourceError (at ``where``)
    for a path that leaves the root, a link that points out of it, a device or pipe, a member that comes twice, or an
    archive that unpacks to more than ``limit`` bytes.
    """
    contents: dict[str, bytes] = {}
    with _explained(where):
        for member, hard, reader in _walk(stream, where, limit):
            if hard and hard not in contents:
                raise _refuse(where, member.path, f"it is a hard link to {hard!r}, which is no file before it")
            if hard or reader is not None:
                contents[member.path] = contents[hard] if reader is None else reader.read()
                yield replace(member, content=contents[member.path])
            else:
                yield member


def extract(stream: IO[bytes], root: Path, where: str, limit: int = LIMIT) -> None:
    """Write the members below ``root`` without going through memory; refuses what ``members`` does, and hard links.

    Nothing is written through a symbolic link, also not one that an earlier layer made.
    """
    with _explained(where):
        for member, hard, reader in _walk(stream, where, limit):
            path = root / member.path
            above = [parent for parent in path.parents if parent != root and parent.is_relative_to(root)]
            is_folder = reader is None and not member.link
            if hard or any(each.is_symlink() for each in (*above, *([path] if is_folder else []))):
                raise _refuse(where, member.path, "it goes through a link")
            if is_folder:
                path.mkdir(exist_ok=True)
                path.chmod(member.mode)
                if os.geteuid() == 0:
                    os.chown(path, member.owner, member.owner)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if reader is None:
                path.symlink_to(member.link)
            else:
                with path.open("xb") as sink:
                    shutil.copyfileobj(reader, sink, 1 << 20)
                path.chmod(member.mode)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise SourceError(f"not a readable archive: {error}", where=where) from error


def _walk(stream: IO[bytes], where: str, limit: int) -> Iterator[tuple[Member, str, IO[bytes] | None]]:
    """Each member after its checks, without content; what a hard link stands for; and the stream of a file's bytes."""
    seen: dict[str, bool] = {}
    total = 0
    with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8") as tar:
        for info in tar:
            total += info.size
            if total > limit:
                raise _refuse(where, info.name, f"the archive unpacks to more than {limit} bytes")
            member, hard = _member(where, info)
            if not member.path:
                continue
            if member.path in seen and not (info.isdir() and seen[member.path]):
                raise _refuse(where, info.name, "it comes twice")
            seen[member.path] = info.isdir()
            yield member, hard, tar.extractfile(info) if info.isreg() else None


def _member(where: str, info: tarfile.TarInfo) -> tuple[Member, str]:
    if ".." in info.name.split("/"):
        raise _refuse(where, info.name, "its name has a '..'")
    path = _inside(where, info, info.name)
    # The sticky bit of /tmp is the only one above the permissions that has a use in an image.
    mode = info.mode & (0o1777 if info.isdir() else 0o777)
    if info.issym():
        start = "" if info.linkname.startswith("/") else posixpath.dirname(path)
        _inside(where, info, posixpath.join(start, info.linkname.lstrip("/")))
        return Member(path, link=info.linkname), ""
    if info.islnk():
        return Member(path, mode=mode), _inside(where, info, info.linkname)
    if not (info.isdir() or info.isreg()):
        raise _refuse(where, info.name, "it is a device, a pipe or something else that is no file")
    return Member(path, mode=mode, owner=info.uid), ""


def _inside(where: str, info: tarfile.TarInfo, path: str) -> str:
    """``./usr/bin/x`` -> ``usr/bin/x``; "" for the root itself."""
    plain = posixpath.normpath(path)
    if path.startswith("/") or plain == ".." or plain.startswith("../") or "\0" in path:
        raise _refuse(where, info.name, f"{path!r} leaves the root")
    return "" if plain == "." else plain


def _refuse(where: str, name: str, why: str) -> SourceError:
    return SourceError(f"refused {name!r}: {why}", where=where)
