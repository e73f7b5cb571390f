"""Small base images for tests: layouts with whatever files a test wants in their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lsbuild.packing.archive import Member
from lsbuild.packing.oci import Layout, Settings
from lsbuild.packing.oci_read import published

LIBC = b"\x7fELF...GNU C Library (Debian GLIBC 2.41-12) stable release version 2.41.\n"
PYTHON = {
    "lib/x86_64-linux-gnu/libc.so.6": LIBC,
    "usr/local/bin/python3.13": b"\x7fELF",
    "usr/local/lib/python3.13/os.py": b"",
}
SETTINGS = Settings(entrypoint=("/bin/sh",), user="", port=0, env=("PATH=/usr/local/bin:/usr/bin", "LANG=C", "KEPT=1"))


def base_layout(
    root: Path, *layers: Mapping[str, bytes | str], arches: Sequence[str] = ("amd64",), name: str = "base:1"
) -> Path:
    """An image of ``layers`` (path -> content, or ``"-> target"`` for a symbolic link) for each of ``arches``."""
    layout = Layout(root, 0)
    made = []
    for arch in arches:
        packed = [layout.layer([_member(*each) for each in layer.items()], "base") for layer in layers or (PYTHON,)]
        made.append(layout.image(arch, packed, SETTINGS))
    layout.index(made, name)
    return root


def digest_of(layout: Path) -> str:
    """What names the image in a registry."""
    return published(layout).top.digest


def _member(path: str, content: bytes | str) -> Member:
    if isinstance(content, str):
        return Member(path, link=content.removeprefix("-> "))
    return Member(path, content, 0o755)
