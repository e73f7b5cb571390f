"""Debian's Python with its own loader and C library, as a layer for provided.al2023; pure but for the tar it reads."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from lsbuild.api import TargetError
from lsbuild.packing.archive import Member
from lsbuild_targets.aws_lambda.options import Options

_KEPT = re.compile(
    r"usr/bin/python3\.\d+$|usr/lib/python3\.\d+/|usr/lib/[a-z0-9_]+-linux-gnu/[^/]+\.so|etc/ssl/certs/ca-certificates\.crt$"
    r"|usr/share/doc/[^/]+/copyright$"
)
_LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}
_TRIPLETS = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_BOOTSTRAP = """#!/bin/sh
# Starts the Python of the layer with the loader and the C library that it was built for.
layers="${{LSBUILD_LAYERS:-/opt/lsbuild}}"
usr="$layers/python/usr"
export SSL_CERT_FILE="${{SSL_CERT_FILE:-$layers/python/etc/ssl/certs/ca-certificates.crt}}"
libraries="$usr/lib/{triplet}"
exec "$libraries/{loader}" --library-path "$libraries" "$usr/bin/python{python}" {flags} \\
    {start} "$LAMBDA_TASK_ROOT" "$layers"
"""


def members(tar: Path, prefix: str) -> Iterator[Member]:
    """The interpreter, its standard library, the C library and certificates of a base's tar, below ``prefix``.

    Links become copies: a zip for Lambda holds none. Raises TargetError when a link of the base leads nowhere.
    """
    with tarfile.open(tar, encoding="utf-8") as archive:
        known = {info.name: info for info in archive}
        wanted = [name for name, info in sorted(known.items()) if _KEPT.match(name) and (info.isfile() or info.issym())]
        found = {name: _target(name, known) for name in wanted}
        # A library is looked for by the name of its link; under its own it would only be there twice.
        linked = {target.name for name, target in found.items() if name != target.name}
        for name, target in found.items():
            if name in linked:
                continue
            stream = archive.extractfile(target)
            if stream is not None:
                with stream:
                    yield Member(f"{prefix}/{name}", stream.read(), 0o755 if target.mode & 0o100 else 0o644)


def bootstrap(options: Options, flags: str, start: str) -> bytes:
    """The script that Lambda starts."""
    return _BOOTSTRAP.format(
        triplet=_TRIPLETS[options.arch],
        loader=_LOADERS[options.arch],
        python=options.python,
        flags=flags,
        start=start,
    ).encode()


def _target(name: str, known: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo:
    info = known[name]
    for _ in range(8):
        if info.isfile():
            return info
        link = info.linkname
        above = "" if link.startswith("/") else posixpath.dirname(info.name)
        path = posixpath.normpath(posixpath.join(above, link.lstrip("/")))
        path = re.sub(r"^(lib|lib64|bin|sbin)/", r"usr/\1/", path)
        if path not in known:
            break
        info = known[path]
    raise TargetError(f"/{name} of the base is a link that leads nowhere")
