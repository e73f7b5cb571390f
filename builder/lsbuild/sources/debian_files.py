"""``deb://SUITE/PACKAGE/PATH``: files inside one package of a Debian archive, such as documentation; nothing is installed.

PATH is a file, a folder or a glob with ``**`` and ``{a,b}``. Trust, mirror and index are those of ``debian:``; the lock
has the package's pool path and hash as the revision, and the hash of every file that was taken.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lsbuild.api import Source
from lsbuild.errors import SourceError
from lsbuild.packing import deb
from lsbuild.sources import debian
from lsbuild.sources.base import FetchContext
from lsbuild.sources.debian_archive import Mirrors
from lsbuild.sources.globs import MAGIC, expand, translate

_FORM = re.compile(r"(?P<suite>[a-z][a-z-]*)/(?P<package>[a-z0-9][a-z0-9+.-]+)/(?P<path>[^#]+)(?:#(?P<mirrors>.+))?")
_LOCKED = re.compile(r"(?P<path>pool/\S+\.deb) sha256:(?P<sha256>[0-9a-f]{64})")
_ARCH = "amd64"
"""Whose index is read: packages for all architectures, which alone are taken, stand in that of each."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    suite: str
    package: str
    path: str
    mirrors: Mirrors | None


def fetch(rest: str, context: FetchContext) -> Source:
    """The wanted files, named below the last folder that PATH spells out. The revision is ``POOL/FILE.deb sha256:HEX``."""
    wanted = _parse(rest, context)
    if context.pinned is not None and all(context.blob(file.sha256) for file in context.pinned):
        files = context.tree({file.path: file.sha256 for file in context.pinned})
        return Source(context.uri, files, context.revision)
    locked = _LOCKED.fullmatch(context.revision)
    path, sha256 = (locked["path"], locked["sha256"]) if locked else _newest(wanted, context)
    debian.download({path: sha256}, wanted.mirrors, context)
    blob = context.blob(sha256)
    if blob is None:
        raise context.missing(f"{path} is")
    contents = {
        name: context.add(io.BytesIO(data)).name for name, data in select(_installed(blob, path), wanted.path).items()
    }
    if not contents:
        raise SourceError(
            f"no file of {path.rsplit('/', 1)[-1]} matches {wanted.path}",
            where=context.uri,
            hint="`dpkg-deb --contents FILE.deb` lists what a package holds; a path has no leading slash.",
        )
    return Source(context.uri, context.tree(contents), f"{path} sha256:{sha256}")


def select(files: Mapping[str, bytes], path: str) -> dict[str, bytes]:
    """The ``files`` that ``path`` (a file, a folder or a glob) names, under their names below its last plain folder."""
    plain = "{" not in path and not MAGIC.search(path)
    if plain:
        base = posixpath.dirname(path) if path in files else path.rstrip("/")
        chosen = [name for name in files if name == path or name.startswith(f"{path.rstrip('/')}/")]
    else:
        base = posixpath.dirname(re.split(r"[*?\[{]", path, maxsplit=1)[0])
        patterns = [translate(each) for each in expand(path)]
        chosen = [name for name in files if any(pattern.fullmatch(name) for pattern in patterns)]
    return {name[len(base) :].lstrip("/"): files[name] for name in sorted(chosen)}


def _parse(rest: str, context: FetchContext) -> _Wanted:
    match = _FORM.fullmatch(rest)
    if match is None or match["path"].startswith("/"):
        raise SourceError(
            "expected a suite, a package and a path in it",
            where=context.uri,
            hint="Write deb://SUITE/PACKAGE/PATH, like deb://trixie/python3.13-doc/usr/share/doc/python3.13/html/_sources/faq/*.",
        )
    return _Wanted(match["suite"], match["package"], match["path"], debian.given_mirrors(match["mirrors"] or ""))


def _newest(wanted: _Wanted, context: FetchContext) -> tuple[str, str]:
    if context.offline:
        raise context.missing("the package index is")
    found = debian.index(wanted.suite, _ARCH, wanted.mirrors, context).package(wanted.package)
    if found is None:
        raise SourceError(
            f"{wanted.suite} has no package {wanted.package!r}",
            where=context.uri,
            hint="`apt-cache policy NAME` shows what a machine of that suite has.",
        )
    if not found.path.endswith("_all.deb"):
        raise SourceError(
            f"{wanted.package} is built for each architecture, so its files are not the same everywhere",
            where=context.uri,
            hint="Name a package for all architectures; documentation is mostly in one of its own (NAME-doc).",
        )
    return found.path, found.sha256


def _installed(package: Path, path: str) -> dict[str, bytes]:
    name = path.rsplit("/", 1)[-1]
    try:
        return {member.path: member.content for member in deb.members(package) if isinstance(member.content, bytes)}
    except SourceError as error:
        raise SourceError(error.what, where=name, hint=error.hint) from error
