"""Reads a .deb: an ar archive with two compressed tars, control and data; it runs nothing of it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from lsbuild.errors import SourceError
from lsbuild.packing import untar
from lsbuild.packing.archive import Member

LIMIT = 2 << 30
"""Most bytes that one package may unpack to."""
_MAGIC = b"!<arch>\n"


def members(deb: Path) -> Iterator[Member]:
    """What the package installs, as ``untar.members`` gives it. SourceError when it is no .deb or holds what may not be."""
    with _part(deb, "data.tar") as stream:
        yield from untar.members(stream, deb.name, LIMIT)


def extract(deb: Path, root: Path) -> None:
    """Write what the package installs below ``root``. SourceError as for ``members``."""
    with _part(deb, "data.tar") as stream:
        untar.extract(stream, root, deb.name, LIMIT)


def control(deb: Path) -> bytes:
    """The package's control fields (name, version, maintainer ...), as text of Debian's format."""
    with _part(deb, "control.tar") as stream:
        for member in untar.members(stream, deb.name, 64 << 20):
            if member.path == "control" and isinstance(member.content, bytes):
                return member.content.rstrip() + b"\n"
    raise SourceError("not a .deb: it has no control file", where=deb.name)


def _part(deb: Path, wanted: str) -> IO[bytes]:
    """The uncompressed stream of the member whose name begins with ``wanted``."""
    with deb.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise SourceError("not a .deb: it does not begin like an ar archive", where=deb.name)
        while header := stream.read(60):
            name, size = header[:16].decode("latin-1").strip().rstrip("/"), header[48:58].strip()
            if len(header) != 60 or header[58:] != b"`\n" or not size.isdigit():
                raise SourceError("not a .deb: a damaged ar header", where=deb.name)
            if name.startswith(wanted):
                return _unpacked(name, stream.read(int(size)), deb)
            stream.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise SourceError(f"not a .deb: it has no {wanted}", where=deb.name)


def _unpacked(name: str, data: bytes, deb: Path) -> IO[bytes]:
    kind = name.partition(".tar")[2].lstrip(".")
    if kind == "":
        return io.BytesIO(data)
    if kind == "xz":
        return lzma.open(io.BytesIO(data))
    if kind == "gz":
        return cast("IO[bytes]", gzip.open(io.BytesIO(data)))
    if kind == "bz2":
        return bz2.open(io.BytesIO(data))
    tool = shutil.which("zstd") if kind == "zst" else None
    if tool is None:
        raise SourceError(f"cannot read {name}", where=deb.name, hint="apt-get install zstd" if kind == "zst" else "")
    done = subprocess.run([tool, "-dcq", f"-M{LIMIT >> 20}MB"], input=data, capture_output=True, check=False)  # noqa: S603
    if done.returncode or len(done.stdout) > LIMIT:
        raise SourceError(f"cannot unpack {name}: {done.stderr.decode(errors='replace')[:200]}", where=deb.name)
    return io.BytesIO(done.stdout)
