"""Which GPUs a library has code for: the entries of its CUDA fat binary, read from the bytes that nvcc wrote; runs nothing.

The section ``.nv_fatbin`` is a row of blobs. Each has a header (magic, version, size of the header, size of what follows)
and entries, each with a header of its own: what it is (PTX or machine code), how long, and for which GPU. What follows
that header may be compressed; it is not looked at. NVIDIA publishes no description of the format: the fields were compared
with what ``cuobjdump --list-elf`` says of onnxruntime's wheels, which a test does again where it is given one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lsbuild.packing import elf

MAGIC = 0xBA55ED50
SECTION = ".nv_fatbin"
PTX, MACHINE_CODE = 1, 2
"""Kinds of an entry."""
OWN_FEATURES = 0x100000
"""Flag of an entry that was compiled for one GPU's own features (``sm_90a``)."""
_BLOB, _ENTRY = struct.Struct("<IHHQ"), struct.Struct("<HHIQ12xI8xQ")


@dataclass(frozen=True, slots=True, order=True)
class Code:
    """One kind of code: ``sm`` is the compute capability without its point (87 for 8.7).

    ``ptx`` is an intermediate form that a driver compiles for a GPU of this or a later capability; ``own`` is for exactly
    this one, whatever the rule.
    """

    sm: int
    ptx: bool = False
    own: bool = False

    def __str__(self) -> str:
        return f"{'compute' if self.ptx else 'sm'}_{self.sm}{'a' if self.own else ''}"


def read(path: Path) -> tuple[Code, ...]:
    """Every kind of code in a library, sorted; () where it has none. ValueError for a damaged file."""
    return tuple(sorted(set(_codes(elf.section(path, SECTION)))))


def runs(codes: Iterable[Code], sm: int, *, embedded: bool) -> str:
    """How a GPU of capability ``sm`` runs them: ``machine code``, ``ptx`` (compiled by the driver when it is first
    loaded) or "" for not at all.

    CUDA's rule: machine code runs on its own capability and on later ones of the same major number, but between and on
    the GPUs of ``embedded`` modules (Jetson) only on its own.
    """
    every = tuple(codes)
    if any(not code.ptx and _fits(code, sm, embedded=embedded) for code in every):
        return "machine code"
    return "ptx" if any(code.ptx and (code.sm <= sm if not code.own else code.sm == sm) for code in every) else ""


def _fits(code: Code, sm: int, *, embedded: bool) -> bool:
    if code.own or embedded:
        return code.sm == sm
    return code.sm // 10 == sm // 10 and code.sm <= sm


def _codes(data: bytes) -> Iterator[Code]:
    at = 0
    while at < len(data):
        if not data[at : at + 8].strip(b"\0"):  # between blobs there may be zeros
            at += 8
            continue
        try:
            magic, _, header, size = _BLOB.unpack_from(data, at)
        except struct.error as error:
            raise ValueError(f"{SECTION} ends within a header") from error
        if magic != MAGIC:
            raise ValueError(f"{SECTION} holds {magic:#x} where a fat binary should begin")
        begin, at = at + header, at + header + size
        if header < _BLOB.size or at > len(data):
            raise ValueError(f"a fat binary ends behind {SECTION}")
        yield from _entries(data, begin, at)


def _entries(data: bytes, at: int, end: int) -> Iterator[Code]:
    while at < end:
        try:
            kind, _, header, size, sm, flags = _ENTRY.unpack_from(data, at)
        except struct.error as error:
            raise ValueError("an entry of a fat binary ends within its header") from error
        at += header + size
        if header < _ENTRY.size or at > end:
            raise ValueError("an entry ends behind its fat binary")
        if kind in (PTX, MACHINE_CODE):
            yield Code(sm, kind == PTX, bool(flags & OWN_FEATURES))
