"""The only door through which bytes enter a build: URI -> Source, hashed, and compared with the lock.

A table maps each scheme to its fetcher; what has no scheme is a path beside the spec.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lsbuild import lock as locks
from lsbuild.api import Source, SourceFile
from lsbuild.errors import SourceError
from lsbuild.lock import Lock
from lsbuild.registry import attribute
from lsbuild.running.monitor import Monitor
from lsbuild.sources.base import FetchContext, Fetcher
from lsbuild.suggest import did_you_mean

__all__ = ["FETCHERS", "FetchContext", "Fetcher", "resolve"]

FETCHERS: Mapping[str, str] = {
    "": "lsbuild.sources.local:fetch",
    "builtin": "lsbuild.sources.builtin:fetch",
    "deb": "lsbuild.sources.debian_files:fetch",
    "debian": "lsbuild.sources.debian:fetch",
    "hf": "lsbuild.sources.hf:fetch",
    "http": "lsbuild.sources.http:fetch",
    "https": "lsbuild.sources.http:fetch",
    "mcp": "lsbuild.sources.mcp:fetch",
    "oci": "lsbuild.sources.oci:fetch",
    "pypi": "lsbuild.sources.pypi:fetch",
    "wheels": "lsbuild.sources.wheels:fetch",
}
"""Scheme -> ``"module:attr"`` of its Fetcher."""

_HERE = frozenset({"", "builtin"})
"""Schemes whose files are on this machine already."""


def resolve(
    uris: Iterable[str], *, root: Path, lock: Lock, cache: Path, offline: bool, locked: bool, monitor: Monitor
) -> dict[str, Source]:
    """Every URI with its files, in order, without duplicates.

    Raises SourceError or OfflineError for the first that cannot be had, and under ``locked`` LockError that lists every
    difference between what was found and ``lock``.
    """
    found: dict[str, Source] = {}
    unlocked: list[str] = []
    for uri in dict.fromkeys(uris):
        if locked and uri not in lock.sources and split(uri)[0] not in _HERE:
            unlocked.append(uri)  # known to be an error: nothing is fetched for it
            continue
        watch = _Watch(uri, monitor)
        context = FetchContext(
            uri=uri,
            root=root,
            cache=cache,
            offline=offline,
            pinned=_pinned(lock, uri, cache),
            revision=lock.sources[uri].revision if uri in lock.sources else "",
            progress=watch.progress,
        )
        found[uri] = _fetch(uri, context)
        watch.finished()
    if locked:
        locks.require(lock, found, unlocked)
    return found


def _fetch(uri: str, context: FetchContext) -> Source:
    scheme, rest = split(uri)
    entry = FETCHERS.get(scheme)
    if entry is None:
        known = [name for name in FETCHERS if name]
        raise SourceError(f"unknown scheme '{scheme}'.{did_you_mean(scheme, known)}", where=uri)
    fetch: Fetcher = attribute(entry)
    return replace(fetch(rest, context), uri=uri)


class _Watch:
    """Tells the monitor of a source only when there is something to wait for: at its first progress."""

    def __init__(self, uri: str, monitor: Monitor) -> None:
        self._name = re.split("[?#{]", uri, maxsplit=1)[0]
        self._monitor = monitor
        self._start: float | None = None

    def progress(self, done: int, total: int, label: str) -> None:
        if self._start is None:
            self._start = time.monotonic()
            self._monitor.started(self._name, label)
        self._monitor.progress(self._name, done, total, label)

    def finished(self) -> None:
        if self._start is not None:
            self._monitor.finished(self._name, time.monotonic() - self._start, cached=False)


def split(uri: str) -> tuple[str, str]:
    """Scheme and rest: ``hf://a/b@c`` -> ("hf", "a/b@c"), ``wheels:tag?x`` -> ("wheels", "tag?x"), a path -> ("", path)."""
    match = re.match(r"([a-z][a-z0-9+-]+):(?://)?(.*)", uri, re.DOTALL)
    return (match[1], match[2]) if match else ("", uri)


def _pinned(lock: Lock, uri: str, cache: Path) -> tuple[SourceFile, ...] | None:
    entry = lock.sources.get(uri)
    if entry is None:
        return None
    blobs = cache / "blobs"
    return tuple(
        SourceFile(path, blobs / file.sha256[:2] / file.sha256, file.sha256, file.size)
        for path, file in sorted(entry.files.items())
    )
