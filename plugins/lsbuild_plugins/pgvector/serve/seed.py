"""The compiled documents of a build as a file, and what they are as another; the compile half writes, the serve half reads.

The file is a frame for each document: its length in four bytes (big-endian), then msgpack. Nothing is compressed: vectors
do not shrink, and artifacts are compressed as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from lsbuild_runtime.manifest import ManifestError
from lsbuild_runtime.mutable import StoredFile
from lsbuild_runtime.ports import Passage

FILE_NAME = "seed.bin"
HEADER_NAME = "seed.json"

FORMAT = 1
"""Raised whenever an older serve half could misread a newer seed."""


class Header(Struct, frozen=True, kw_only=True):
    """``digest`` names the documents and vectors: stores with the same digest hold the same."""

    format: int
    digest: str
    embedding: str
    dimensions: int
    files: int


class Document(Struct, frozen=True):
    """One document; ``vectors`` are float32 little-endian, one after the other in the order of ``passages``."""

    file: StoredFile
    passages: list[Passage]
    vectors: bytes


def write(folder: Path, embedding: str, dimensions: int, documents: Iterable[Document]) -> Header:
    """Write a seed; the same documents give the same bytes. One document at a time is in memory."""
    digest = hashlib.sha256(f"{FORMAT} {embedding} {dimensions}".encode())
    files = 0
    with (folder / FILE_NAME).open("wb") as file:
        for document in documents:
            frame = msgspec.msgpack.encode(document)
            digest.update(hashlib.sha256(frame).digest())
            file.write(len(frame).to_bytes(4, "big") + frame)
            files += 1
    header = Header(format=FORMAT, digest=digest.hexdigest(), embedding=embedding, dimensions=dimensions, files=files)
    (folder / HEADER_NAME).write_bytes(msgspec.json.encode(header) + b"\n")
    return header


def read_header(folder: Path) -> Header:
    """What a seed holds. ManifestError when it is missing, damaged or of another format."""
    path = folder / HEADER_NAME
    try:
        header = msgspec.json.decode(path.read_bytes(), type=Header)
    except (OSError, msgspec.MsgspecError) as error:
        raise ManifestError(f"{path}: the seed cannot be read ({error}); build the artifact again") from error
    if header.format != FORMAT:
        raise ManifestError(
            f"{path}: seed format {header.format}, this runtime reads {FORMAT}; build the artifact again"
        )
    return header


def read(folder: Path) -> Iterator[tuple[str, Document]]:
    """Each document with the sha256 of its frame; one at a time is in memory."""
    with (folder / FILE_NAME).open("rb") as file:
        while size := file.read(4):
            frame = file.read(int.from_bytes(size, "big"))
            yield hashlib.sha256(frame).hexdigest(), msgspec.msgpack.decode(frame, type=Document)
