"""The compiled documents of a build as one file; the compile half writes it, the serve half reads it.

A header, then a frame for each document: its length in four bytes (big-endian), then msgpack. Nothing is compressed:
vectors do not shrink, and artifacts are compressed as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from lsbuild_runtime.manifest import ManifestError
from lsbuild_runtime.mutable import StoredFile
from lsbuild_runtime.ports import Passage

FILE_NAME = "seed.bin"

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


def write(path: Path, embedding: str, dimensions: int, frames: Iterable[Document]) -> Header:
    """Write a seed; the same documents give the same bytes."""
    encoded = [msgspec.msgpack.encode(frame) for frame in frames]
    digest = hashlib.sha256(f"{FORMAT} {embedding} {dimensions}".encode())
    for frame in encoded:
        digest.update(hashlib.sha256(frame).digest())
    header = Header(
        format=FORMAT, digest=digest.hexdigest(), embedding=embedding, dimensions=dimensions, files=len(encoded)
    )
    with path.open("wb") as file:
        for frame in (msgspec.msgpack.encode(header), *encoded):
            file.write(len(frame).to_bytes(4, "big") + frame)
    return header


def read_header(path: Path) -> Header:
    """What a seed holds. ManifestError when it is missing, damaged or of another format."""
    try:
        with path.open("rb") as file:
            header = msgspec.msgpack.decode(_frame(file), type=Header)
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise ManifestError(f"{path}: the seed cannot be read ({error}); build the artifact again") from error
    if header.format != FORMAT:
        raise ManifestError(
            f"{path}: seed format {header.format}, this runtime reads {FORMAT}; build the artifact again"
        )
    return header


def read(path: Path) -> Iterator[tuple[str, Document]]:
    """Each document with the sha256 of its frame; one at a time is in memory."""
    with path.open("rb") as file:
        _frame(file)
        while frame := _frame(file):
            yield hashlib.sha256(frame).hexdigest(), msgspec.msgpack.decode(frame, type=Document)


def _frame(file: BinaryIO) -> bytes:
    """The next frame; b"" at the end of the file."""
    size = file.read(4)
    data = file.read(int.from_bytes(size, "big"))
    if size and (len(size) < 4 or len(data) != int.from_bytes(size, "big")):
        raise EOFError("it ends in the middle")
    return data
