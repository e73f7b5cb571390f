"""``lsbuild.lock``: what every source of a spec was, to the byte; it holds no host name and no absolute path.

It reads and writes one file. Whether something drifted is decided here; what to fetch is ``sources``'.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from lsbuild import disk
from lsbuild.api import Source
from lsbuild.disk import Digest
from lsbuild.errors import LockError

SCHEMA = 1
FILE_NAME = "lsbuild.lock"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One source: its files by name, and the revision that pins a remote one."""

    files: dict[str, Digest]
    revision: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"schema_": "schema"}):
    schema_: int
    sources: dict[str, Entry]


@dataclass(frozen=True, slots=True)
class Lock:
    """The sources by URI. Values do not change: ``merged`` and ``pruned`` give new ones."""

    sources: Mapping[str, Entry] = field(default_factory=dict)

    def merged(self, sources: Mapping[str, Source]) -> Lock:
        """This lock with the entries of ``sources`` new or replaced; those of other platforms stay."""
        found = {uri: entry(source) for uri, source in sources.items() if lockable(uri)}
        return replace(self, sources={**self.sources, **found})

    def pruned(self, uris: Collection[str]) -> Lock:
        """This lock without the entries that none of ``uris`` uses; only an explicit update does that."""
        return replace(self, sources={uri: kept for uri, kept in self.sources.items() if uri in uris})


def lockable(uri: str) -> bool:
    """Whether a lock may name ``uri``: a path of this machine means nothing on another."""
    return not uri.startswith(("/", "~"))


def entry(source: Source) -> Entry:
    """What the lock records of a source."""
    return Entry({file.path: Digest(file.sha256, file.size) for file in source.files}, source.revision)


def drift(lock: Lock, source: Source) -> list[str]:
    """How ``source`` differs from ``lock``, one sentence for each file; empty when it does not."""
    if not lockable(source.uri):
        return [f"{source.uri}: a path outside the project cannot be locked; name it relative to the spec"]
    pinned = lock.sources.get(source.uri)
    if pinned is None:
        return [f"{source.uri}: not in {FILE_NAME}"]
    found = entry(source)
    lines = [f"{source.uri}: {name} is missing" for name in pinned.files.keys() - found.files.keys()]
    lines += [f"{source.uri}: {name} is new" for name in found.files.keys() - pinned.files.keys()]
    lines += [
        f"{source.uri}: {name} changed (sha256 {pinned.files[name].sha256[:12]} -> {found.files[name].sha256[:12]})"
        for name in found.files.keys() & pinned.files.keys()
        if found.files[name] != pinned.files[name]
    ]
    if pinned.revision != found.revision:
        lines.append(f"{source.uri}: revision {pinned.revision or 'none'} -> {found.revision or 'none'}")
    return sorted(lines)


def require(lock: Lock, sources: Mapping[str, Source], unlocked: Sequence[str] = ()) -> None:
    """Raise LockError that lists every drifted file and every URI in ``unlocked``; used under ``--locked``."""
    lines = [line for source in sources.values() for line in drift(lock, source)]
    lines += [f"{uri}: not in {FILE_NAME}" for uri in unlocked]
    if lines:
        raise LockError(
            f"{len(lines)} difference{'s' if len(lines) > 1 else ''} from {FILE_NAME}:\n  " + "\n  ".join(lines),
            hint="Build without --locked to accept what was found, or restore the files.",
        )


def to_json(lock: Lock) -> bytes:
    """Canonical bytes: sorted keys, two-space indent, a final newline."""
    plain = msgspec.to_builtins(_File(SCHEMA, dict(lock.sources)))
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def digest(lock: Lock) -> str:
    """sha256 of the canonical bytes: what an artifact's manifest records."""
    return hashlib.sha256(to_json(lock)).hexdigest()


def read(path: Path) -> Lock:
    """The lock at ``path``; an empty one when there is no file. LockError when it cannot be understood."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Lock()
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.MsgspecError as error:
        raise LockError(
            f"not a lock file: {error}", where=str(path), hint="Restore it from version control, or delete it."
        ) from error
    if file.schema_ != SCHEMA:
        raise LockError(
            f"schema {file.schema_}, this lsbuild reads {SCHEMA}", where=str(path), hint="Use a matching lsbuild."
        )
    return Lock(file.sources)


def write(path: Path, lock: Lock) -> bool:
    """Write ``lock`` at ``path`` by rename and return True; nothing is written when the bytes are the same."""
    data = to_json(lock)
    if path.is_file() and path.read_bytes() == data:
        return False
    try:
        disk.put(path, data)
    except OSError as error:
        raise LockError(
            f"cannot be written: {error.strerror}", where=str(path), hint="Use --locked for a read-only checkout."
        ) from error
    return True
