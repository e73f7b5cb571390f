"""Small libraries with the sections that matter, byte by byte: what a wheel for a GPU looks like to whoever inspects it."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

MAGIC = 0xBA55ED50
Entry = tuple[int, int, int]
"""(kind: 1 PTX, 2 machine code; capability; flags)"""
SM_87: Sequence[Entry] = ((2, 87, 0x8011),)
CUDA_13 = ("libcudart.so.13", "libcublas.so.13", "libc.so.6")
CP312 = "wheels/onnxruntime_gpu-1.31.0-cp312-cp312-linux_aarch64.whl"
CP313 = "wheels/onnxruntime_gpu-1.31.0-cp313-cp313-linux_aarch64.whl"
TENSORRT_10 = ("libnvinfer.so.10", "libcudnn.so.9")


def fatbin(entries: Iterable[Entry]) -> bytes:
    """One blob of a fat binary; payloads are noise, as compressed ones are, and of different lengths."""
    body = b""
    for number, (kind, sm, flags) in enumerate(entries):
        payload = bytes(range(40 + 8 * number))
        body += struct.pack("<HHIQIIIIIIQQQ", kind, 0x101, 64, len(payload), 0, 0, 0x10008, sm, 64, 0, flags, 0, 999)
        body += payload
    return struct.pack("<IHHQ", MAGIC, 1, 16, len(body)) + body


def library(section: bytes = b"", needed: Sequence[str] = (), *, machine: int = 183) -> bytes:
    """A 64-bit ELF file: one loaded segment, a dynamic section that names libraries, and ``.nv_fatbin`` (where not empty)."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    names = b"\0.nv_fatbin\0.shstrtab\0"
    at_strings = 64 + 2 * 56
    at_dynamic = at_strings + len(strings)
    offsets = [strings.index(name.encode() + b"\0") for name in needed]
    dynamic = b"".join(struct.pack("<qQ", 1, offset) for offset in offsets)
    dynamic += struct.pack("<qQqQ", 5, at_strings, 0, 0)
    at_section = at_dynamic + len(dynamic)
    at_names = at_section + len(section)
    at_headers = at_names + len(names)
    size = at_headers + 3 * 64
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, at_headers, 0, 64, 56, 2, 64, 3 if section else 2, 1)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 65536)
    segments += struct.pack("<IIQQQQQQ", 2, 6, at_dynamic, at_dynamic, at_dynamic, len(dynamic), len(dynamic), 8)
    headers = bytes(64) + _header(12, 3, at_names, len(names))
    headers += _header(1, 1, at_section, len(section)) if section else b""
    return head + segments + strings + dynamic + section + names + headers


def _header(name: int, kind: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 8, 0)


def capi(providers: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files of ``onnxruntime/capi`` by the short names of providers."""
    return {f"onnxruntime/capi/libonnxruntime_providers_{name}.so": data for name, data in providers.items()}


def cuda(entries: Iterable[Entry] = SM_87, needed: Sequence[str] = CUDA_13) -> bytes:
    """The library of CUDA's provider."""
    return library(fatbin(entries) + bytes(16) + fatbin(entries), needed)


def write_wheel(path: Path, files: Mapping[str, bytes]) -> Path:
    """A wheel with these files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("onnxruntime_gpu-1.31.0.dist-info/METADATA", "Name: onnxruntime-gpu\nVersion: 1.31.0\n")
    return path


def lay_out(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The same unpacked."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
