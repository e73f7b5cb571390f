"""What a native file needs to run: word size, machine, glibc, x86-64 level; read from its bytes, nothing is executed.

Follows the System V ABI and the GNU symbol versioning in the Linux Standard Base: program headers -> PT_DYNAMIC ->
DT_VERNEED and DT_NEEDED, and PT_NOTE -> NT_GNU_PROPERTY_TYPE_0 -> GNU_PROPERTY_X86_ISA_1_NEEDED. None of these needs
section headers, so stripped files are read as well; only ``section`` looks for one by its name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_PT_LOAD, _PT_DYNAMIC, _PT_NOTE = 1, 2, 4
_SHT_NOBITS = 8
_NT_GNU_PROPERTY, _X86_ISA_NEEDED = 5, 0xC0008002
_DT_NEEDED, _DT_STRTAB, _DT_VERNEED, _DT_VERNEEDNUM = 1, 5, 0x6FFFFFFE, 0x6FFFFFFF


@dataclass(frozen=True, slots=True)
class Elf:
    """``bits`` 32 or 64, ``machine`` as in MACHINES, ``glibc`` the newest version needed ((0, 0) when none is).

    ``level`` is the x86-64 level that the linker was told it needs, 1 to 4, and 0 where it was told nothing, as most are.
    ``page`` is the largest page of a kernel, in bytes, that can map it: the smallest alignment of its loaded segments; 0
    where nothing is loaded.
    """

    bits: int
    machine: str
    glibc: tuple[int, int]
    level: int = 0
    page: int = 0


def read(path: Path) -> Elf | None:
    """The facts of an ELF file, or None when ``path`` is not one. ValueError when it is one but damaged."""
    with path.open("rb") as stream:
        if stream.read(4) != b"\x7fELF":
            return None
    data = path.read_bytes()
    try:
        bits = {1: 32, 2: 64}[data[4]]
        order = {1: "<", 2: ">"}[data[5]]
        machine = struct.unpack_from(f"{order}H", data, 18)[0]
        name = MACHINES.get(machine, f"machine {machine}")
        if bits != 64:
            return Elf(bits, name, (0, 0))
        return Elf(bits, name, _glibc(data, order), _level(data, order), _page(data, order))
    except (KeyError, IndexError, struct.error) as error:
        raise ValueError(f"not a whole ELF file: {error}") from error


def needed(path: Path) -> tuple[str, ...]:
    """The shared libraries that a 64-bit ELF file is linked with (DT_NEEDED), in its order. ValueError when it is none."""
    data = path.read_bytes()
    try:
        order = _order(data)
        segments = list(_segments(data, order))
        dynamic = next((at for kind, at, _, _ in segments if kind == _PT_DYNAMIC), None)
        if dynamic is None:
            return ()
        entries = list(_entries(data, order, dynamic))
        strings = _offset(segments, dict(entries)[_DT_STRTAB])
        return tuple(_text(data, strings + value) for tag, value in entries if tag == _DT_NEEDED)
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise ValueError(f"not a whole ELF file: {error}") from error


def section(path: Path, name: str) -> bytes:
    """The bytes of the section ``name`` of a 64-bit ELF file; b"" when it has none. ValueError when it is damaged."""
    data = path.read_bytes()
    try:
        order = _order(data)
        (table,) = struct.unpack_from(f"{order}Q", data, 40)
        size, count, names = struct.unpack_from(f"{order}HHH", data, 58)
        headers = [struct.unpack_from(f"{order}IIQQQQ", data, table + index * size) for index in range(count)]
        for label, kind, _, _, offset, length in headers:
            if _text(data, headers[names][4] + label) != name or kind == _SHT_NOBITS:
                continue
            if offset + length > len(data):
                raise IndexError(f"section {name} ends behind the file")
            return data[offset : offset + length]
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise ValueError(f"not a whole ELF file: {error}") from error
    return b""


def _order(data: bytes) -> str:
    """struct's byte order of a 64-bit ELF file. KeyError for another class."""
    if data[:5] != b"\x7fELF\x02":
        raise KeyError("it is not of 64 bits")
    return {1: "<", 2: ">"}[data[5]]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(0, at)].decode("ascii", "replace")


def _page(data: bytes, order: str) -> int:
    (offset,) = struct.unpack_from(f"{order}Q", data, 32)
    size, count = struct.unpack_from(f"{order}HH", data, 54)
    headers = [offset + index * size for index in range(count)]
    loaded = [at for at in headers if struct.unpack_from(f"{order}I", data, at)[0] == _PT_LOAD]
    return min((struct.unpack_from(f"{order}Q", data, at + 48)[0] for at in loaded), default=0)


def _glibc(data: bytes, order: str) -> tuple[int, int]:
    found = [(0, 0)]
    for name in _versions(data, order):
        match = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", name)
        if match:
            found.append((int(match[1]), int(match[2])))
    return max(found)


def _level(data: bytes, order: str) -> int:
    """The highest bit of GNU_PROPERTY_X86_ISA_1_NEEDED: baseline, v2, v3, v4."""
    needed = 0
    for kind, at, _, size in _segments(data, order):
        if kind == _PT_NOTE:
            for description in _properties(data[at : at + size], order):
                needed |= _isa_bits(description, order)
    return needed.bit_length()


def _properties(notes: bytes, order: str) -> Iterator[bytes]:
    """The description of each GNU property note of a segment."""
    at = 0
    while at + 12 <= len(notes):
        name, size, kind = struct.unpack_from(f"{order}III", notes, at)
        start = at + 12 + (name + 3) // 4 * 4
        if kind == _NT_GNU_PROPERTY and notes[at + 12 : at + 12 + name] == b"GNU\0":
            yield notes[start : start + size]
        at = start + (size + 7) // 8 * 8 if kind == _NT_GNU_PROPERTY else start + (size + 3) // 4 * 4


def _isa_bits(properties: bytes, order: str) -> int:
    at = 0
    while at + 8 <= len(properties):
        kind, size = struct.unpack_from(f"{order}II", properties, at)
        if kind == _X86_ISA_NEEDED and size == 4:
            bits: int = struct.unpack_from(f"{order}I", properties, at + 8)[0]
            return bits
        at += 8 + (size + 7) // 8 * 8
    return 0


def _versions(data: bytes, order: str) -> Iterator[str]:
    """Every symbol version that the file needs from other libraries."""
    segments = list(_segments(data, order))
    dynamic = next((at for kind, at, _, _ in segments if kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return
    table = dict(_entries(data, order, dynamic))
    if not {_DT_STRTAB, _DT_VERNEED, _DT_VERNEEDNUM} <= table.keys():
        return
    strings = _offset(segments, table[_DT_STRTAB])
    need = _offset(segments, table[_DT_VERNEED])
    for _ in range(table[_DT_VERNEEDNUM]):
        _, count, _, first, following = struct.unpack_from(f"{order}HHIII", data, need)
        entry = need + first
        for _ in range(count):
            _, _, _, name, step = struct.unpack_from(f"{order}IHHII", data, entry)
            yield _text(data, strings + name)
            entry += step
        need += following


def _segments(data: bytes, order: str) -> Iterator[tuple[int, int, int, int]]:
    """(type, file offset, virtual address, size in the file) of every program header."""
    (offset,) = struct.unpack_from(f"{order}Q", data, 32)
    size, count = struct.unpack_from(f"{order}HH", data, 54)
    for index in range(count):
        kind, _, at, address, _, length = struct.unpack_from(f"{order}IIQQQQ", data, offset + index * size)
        yield kind, at, address, length


def _entries(data: bytes, order: str, at: int) -> Iterator[tuple[int, int]]:
    """(tag, value) of the dynamic section that begins at ``at``."""
    while True:
        tag, value = struct.unpack_from(f"{order}qQ", data, at)
        if tag == 0:
            return
        yield tag, value
        at += 16


def _offset(segments: list[tuple[int, int, int, int]], address: int) -> int:
    for kind, at, start, length in segments:
        if kind == _PT_LOAD and start <= address < start + length:
            return at + address - start
    raise IndexError(f"address {address:#x} is in no segment")
