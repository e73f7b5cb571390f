"""Fetches ``debian:SUITE/ARCH?pkg,pkg,-pkg``: packages of a Debian archive and all they depend on, as .deb files.

The chain of trust is Debian's: InRelease is checked against Debian's keyring, it has the hash of the index, and the index
those of the packages. ``-pkg`` leaves a package out. With a lock the hashes are known, and no index is read.
Another component than ``main`` is named behind ``#component=``.
"""

from __future__ import annotations

import lzma
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import IO, cast
from urllib.parse import parse_qs

from lsbuild.api import Source
from lsbuild.errors import SourceError
from lsbuild.sources.base import FetchContext
from lsbuild.sources.debian_archive import KEYRINGS, Mirrors, mirrors, release
from lsbuild.sources.debian_index import Index, Package, closure

_URI = re.compile(r"(?P<suite>[a-z][a-z-]*)/(?P<arch>amd64|arm64)\?(?P<packages>[a-z0-9+.,-]+)(?:#(?P<mirrors>.+))?")
_COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
_INDEX_LIMIT = 512 << 20
_TIMEOUT_S = 60.0
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed URI. ``mirrors`` is None when the machine's own apt configuration is to be asked."""

    suite: str
    arch: str
    wanted: tuple[str, ...]
    without: frozenset[str]
    mirrors: Mirrors | None
    component: str = "main"


def parse(rest: str) -> Request:
    """Read ``SUITE/ARCH?pkg,-pkg`` with an optional ``#mirror=URL&security=URL&component=NAME``. Raises SourceError."""
    match = _URI.fullmatch(rest)
    if match is None:
        raise SourceError(
            f"{rest!r} is not of the form SUITE/ARCH?package,package",
            hint="ARCH is amd64 or arm64, like trixie/arm64?libc6",
        )
    names = match["packages"].split(",")
    return Request(
        suite=match["suite"],
        arch=match["arch"],
        wanted=tuple(name for name in names if name and not name.startswith("-")),
        without=frozenset(name[1:] for name in names if name.startswith("-")),
        mirrors=given_mirrors(match["mirrors"] or ""),
        component=_component(match["mirrors"] or ""),
    )


def given_mirrors(text: str) -> Mirrors | None:
    """``mirror=URL&security=URL`` of a URI's fragment; None without a mirror."""
    given = {key: values[0].rstrip("/") for key, values in parse_qs(text).items()}
    return Mirrors(given["mirror"], given.get("security", "")) if "mirror" in given else None


def _component(text: str) -> str:
    found = parse_qs(text).get("component", ["main"])[0]
    if found not in _COMPONENTS:
        raise SourceError(f"Debian has no component {found!r}", hint=f"it is one of {', '.join(_COMPONENTS)}")
    return found


def fetch(rest: str, context: FetchContext) -> Source:
    """The packages, named by their pool path. SourceError says which file could not be had or is not what was signed."""
    request = parse(rest)
    if context.pinned is not None:
        files = {file.path: file.sha256 for file in context.pinned}
    elif context.offline:
        raise context.missing("the package index is")
    else:
        packages = _resolve(request, context)
        files = {package.path: package.sha256 for package in packages}
    download(files, request.mirrors, context)
    return Source(context.uri, context.tree(files), context.revision)


def _resolve(request: Request, context: FetchContext) -> tuple[Package, ...]:
    try:
        found = index(request.suite, request.arch, request.mirrors, context, request.component)
        return closure(found, request.wanted, request.without)
    except SourceError as error:
        raise SourceError(error.what, where=error.where or context.uri, hint=error.hint) from error


def index(suite: str, arch: str, given: Mirrors | None, context: FetchContext, component: str = "main") -> Index:
    """All packages of a suite's component with its security updates, as the archive signed them.

    Backports have no security updates of their own. SourceError when it cannot be had.
    """
    found = given or mirrors()
    context.progress(0, 1, f"package index of {suite}")
    texts = [_index(found.main, suite, arch, context, component)]
    if found.security and not suite.endswith("-backports"):
        texts.append(_index(found.security, f"{suite}-security", arch, context, component))
    return Index(texts)


def _index(mirror: str, suite: str, arch: str, context: FetchContext, component: str) -> str:
    """The text of ``Packages``, checked through InRelease; kept in the cache by its hash."""
    dists = f"{mirror}/dists/{suite}"
    with _open(f"{dists}/InRelease", context) as stream:
        hashes = release(stream.read(16 << 20), suite, KEYRINGS)
    folder = f"{component}/binary-{arch}"
    name = f"{folder}/Packages.xz"
    sha256 = hashes.get(name)
    if sha256 is None:
        raise SourceError(
            f"{suite} has no {name}", where=context.uri, hint=f"does {suite} exist for {arch}, with {component}?"
        )
    blob = context.blob(sha256)
    if blob is None:
        # By hash: the plain name may change on the mirror between the two requests.
        with _open(f"{dists}/{folder}/by-hash/SHA256/{sha256}", context) as stream:
            blob = context.add(stream, sha256)
    with lzma.open(blob) as packed:
        text = packed.read(_INDEX_LIMIT + 1)
    if len(text) > _INDEX_LIMIT:
        raise SourceError(f"the package index of {suite} is larger than {_INDEX_LIMIT >> 20} MiB", where=context.uri)
    return text.decode()


def download(files: Mapping[str, str], given: Mirrors | None, context: FetchContext) -> None:
    """Have the packages (pool path -> sha256) as blobs. SourceError or OfflineError when one cannot be had."""
    absent = sorted(path for path, sha256 in files.items() if context.blob(sha256) is None)
    if absent and context.offline:
        raise context.missing(f"{absent[0]} (and {len(absent) - 1} more) is" if len(absent) > 1 else f"{absent[0]} is")
    found = (given or mirrors()) if absent else Mirrors("")
    for done, path in enumerate(absent):
        context.progress(done, len(absent), path.rsplit("/", 1)[-1])
        with _open(found.of(path), context) as stream:
            context.add(stream, files[path])


def _open(url: str, context: FetchContext) -> IO[bytes]:
    """Open a URL of the mirror, trying again when the network fails. Raises SourceError."""
    reason: object = ""
    for _ in range(_TRIES):
        try:
            return cast("IO[bytes]", urllib.request.urlopen(url, timeout=_TIMEOUT_S))  # noqa: S310 - http(s) mirrors only
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise SourceError(
                    f"the mirror has no {url}",
                    where=context.uri,
                    hint="the suite may have moved on: delete this entry of lsbuild.lock, or name a snapshot mirror in the spec",
                ) from error
            reason = error
        except (OSError, HTTPException) as error:
            reason = error
    raise SourceError(f"cannot fetch {url}: {reason}", where=context.uri, hint="check the network, or use --offline")
