"""Which documents share an embedding step: pure arithmetic on names and sizes, asked by the plan.

Measured with an 8-bit MiniLM: a step costs 0.65 CPU seconds before its first passage, a passage 12 to 26 milliseconds.
200 documents of one passage took 3 CPU seconds as one step and would take 130 as 200 steps.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from lsbuild.api import Source, SourceError, SourceFile

SHARD_BYTES = 64 << 10
"""Aimed size of a shard's documents: at least sixty passages, so that starting costs less than a third of embedding."""

MAX_SHARDS = 256
_MAGIC = re.compile(r"[*?\[]")


def documents(sources: Mapping[str, Source]) -> tuple[SourceFile, ...]:
    """All files once, under the names that readers will see: globs may overlap.

    SourceError when one name means two different files, or when there is no file.
    """
    found: dict[str, SourceFile] = {}
    for source in sources.values():
        for file in source.files:
            named = replace(file, path=_name(source, file))
            other = found.setdefault(named.path, named)
            if other.sha256 != file.sha256:
                raise SourceError(
                    f"two different files have this name: {other.location} and {file.location}",
                    where=named.path,
                    hint="Rename one of them, or put the spec into a folder above both.",
                )
    if not found:
        uris = ", ".join(source.uri for source in sources.values())
        raise SourceError("no documents to index", where=uris, hint="Check the paths and globs under sources.")
    return tuple(found[path] for path in sorted(found))


def _name(source: Source, file: SourceFile) -> str:
    """The path as the spec spells it, without leading ``./``, ``../`` and ``/``: the same on every machine.

    A source gives names below a folder; the folder is added, so that two folders may both hold a README.md.
    """
    path = file.path
    if "://" not in source.uri and not _MAGIC.search(source.uri):
        uri = PurePosixPath(source.uri)
        path = uri.as_posix() if uri.name == path and len(source.files) == 1 else (uri / path).as_posix()
    name = "/".join(part for part in PurePosixPath(path).parts if part not in ("/", "..", "."))
    if not name.isprintable():
        raise SourceError("the name of this file is not printable UTF-8", where=ascii(name), hint="Rename the file.")
    return name


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
