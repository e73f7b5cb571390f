"""Which documents share an embedding step: pure arithmetic on names and sizes, asked by the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from lsbuild.api import Source, SourceError, SourceFile

SHARD_BYTES = 64 << 10
"""Aimed size of a shard's documents: some sixty passages, a few seconds of embedding beside half a second of start."""

MAX_SHARDS = 256


def documents(sources: Mapping[str, Source]) -> tuple[SourceFile, ...]:
    """All files once, by name: globs may overlap. SourceError when one name means two different files, or none is there."""
    found: dict[str, SourceFile] = {}
    for source in sources.values():
        for file in source.files:
            other = found.setdefault(file.path, file)
            if other.sha256 != file.sha256:
                raise SourceError(
                    f"two sources hold different files of this name: {other.location} and {file.location}",
                    where=file.path,
                    hint="Name sources from one common folder, so that their files have different paths.",
                )
    if not found:
        uris = ", ".join(source.uri for source in sources.values())
        raise SourceError("no documents to index", where=uris, hint="Check the paths and globs under sources.")
    return tuple(found[path] for path in sorted(found))


def shards(files: Iterable[SourceFile]) -> tuple[tuple[SourceFile, ...], ...]:
    """Group files so that a changed file moves no other one.

    A file's shard depends on its name and on the number of shards, a power of two that follows the total size.
    """
    files = tuple(files)
    wanted = min(MAX_SHARDS, len(files), max(1, sum(file.size for file in files) // SHARD_BYTES))
    count = 1 << (wanted - 1).bit_length()
    groups: list[list[SourceFile]] = [[] for _ in range(count)]
    for file in files:
        groups[int.from_bytes(hashlib.sha256(file.path.encode()).digest()[:4]) % count].append(file)
    return tuple(tuple(group) for group in groups if group)
