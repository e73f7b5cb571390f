"""Which documents a store has and which of them share an embedding step: pure arithmetic on names, asked by the plan.

Measured with an 8-bit MiniLM: a step costs 0.65 CPU seconds before its first passage, a passage 12 to 90 milliseconds
(64 to 256 tokens). A step that runs again takes what it remembers of documents that did not change (see `passages`), so
a shard may be large; there are several only for the cores, and for the machines of a cluster.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from lsbuild.api import Source, SourceError, SourceFile
from lsbuild_runtime.ports import Attribute

SHARD_BYTES = 256 << 10
"""Aimed size of a shard's documents: some 250 passages or more, so that starting costs a tenth of embedding or less."""

MAX_SHARDS = 256
_MAGIC = re.compile(r"[*?\[]")

Attributes = Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class Listed:
    """One document of a store. ``file.path`` is the name that readers will see, ``attributes`` are those of the spec."""

    file: SourceFile
    attributes: Attributes = field(default_factory=dict)


Shard = tuple[Listed, ...]


def documents(sources: Mapping[str, Source], attributes: Mapping[str, Attributes] | None = None) -> Shard:
    """All files once, by name: globs may overlap. ``attributes`` by the local name of the source.

    A file of several sources has the attributes of all of them; where they differ, the last source decides. SourceError
    when one name means two different files, or when there is no file.
    """
    found: dict[str, Listed] = {}
    for local, source in sources.items():
        given = (attributes or {}).get(local, {})
        for file in source.files:
            named = replace(file, path=_name(source, file))
            other = found.get(named.path, Listed(named))
            if other.file.sha256 != file.sha256:
                raise SourceError(
                    f"two different files have this name: {other.file.location} and {file.location}",
                    where=named.path,
                    hint="Rename one of them, or put the spec into a folder above both.",
                )
            found[named.path] = Listed(other.file, {**other.attributes, **given})
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


def shards(listed: Iterable[Listed]) -> tuple[Shard, ...]:
    """Group documents so that a changed one moves no other.

    A document's shard depends on its name and on the number of shards, a power of two that follows the total size.
    """
    listed = tuple(listed)
    wanted = min(MAX_SHARDS, len(listed), max(1, sum(each.file.size for each in listed) // SHARD_BYTES))
    count = 1 << (wanted - 1).bit_length()
    groups: list[list[Listed]] = [[] for _ in range(count)]
    for each in listed:
        groups[int.from_bytes(hashlib.sha256(each.file.path.encode()).digest()[:4]) % count].append(each)
    return tuple(tuple(group) for group in groups if group)
