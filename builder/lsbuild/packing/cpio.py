"""Writes a cpio archive in the form that the kernel unpacks as its first root (newc); timeless, numbered in order."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from lsbuild.packing.archive import Member, with_folders


def write(stream: IO[bytes], members: Iterable[Member]) -> None:
    """Write ``members`` and the folders above them, all of them root's."""
    for number, member in enumerate(with_folders(members), start=1):
        content = member.content.read_bytes() if isinstance(member.content, Path) else member.content or b""
        kind, mode = stat.S_IFDIR, member.mode
        if member.link:
            kind, mode, content = stat.S_IFLNK, 0o777, member.link.encode()
        elif member.content is not None:
            kind = stat.S_IFREG
        _entry(stream, number, member.path, kind | mode, content)
    _entry(stream, 0, "TRAILER!!!", 0, b"")


def _entry(stream: IO[bytes], number: int, path: str, mode: int, content: bytes) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(f"{field:08X}".encode() for field in fields) + name
    stream.write(head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4))
