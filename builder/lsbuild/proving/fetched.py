"""Fetches a QEMU that can run arm64 code from the Debian archive, for machines whose own is too old; nothing is installed.

The package comes as any other source does: from the mirror of apt's configuration, its index signed, its bytes hashed.
"""

from __future__ import annotations

import os
from pathlib import Path
from platform import machine

from lsbuild import disk, toolbox
from lsbuild.errors import SourceError
from lsbuild.packing import deb
from lsbuild.sources import debian
from lsbuild.sources.base import FetchContext

_PACKAGE = "trixie/amd64?qemu-user,-libc6,-libglib2.0-0t64,-libgnutls30t64"
"""Its program is linked statically, so what it depends on is left out."""
_MEMBER = "usr/bin/qemu-aarch64"


def qemu() -> Path:
    """Fetch it into the cache, where ``toolbox.QEMU_USER`` looks; SourceError when it cannot be had here."""
    if machine() != "x86_64":
        raise SourceError(f"Debian's package runs on x86_64, this machine is {machine()}", where="qemu-user")
    place, cache = toolbox.fetched(toolbox.QEMU_USER.name), disk.folder_from(os.environ)
    context = FetchContext(f"debian:{_PACKAGE}", cache, cache, False, None, "", lambda *_: None)
    source = debian.fetch(_PACKAGE, context)
    for member in deb.members(source.files[0].location):
        if member.path == _MEMBER and isinstance(member.content, bytes):
            with disk.explained(cache):
                place.parent.mkdir(parents=True, exist_ok=True)
                fresh = place.with_name(f".{place.name}.{os.getpid()}")
                fresh.write_bytes(member.content)
                fresh.chmod(0o755)
                fresh.replace(place)
            return place
    raise SourceError(f"the package holds no {_MEMBER}", where=source.uri)
