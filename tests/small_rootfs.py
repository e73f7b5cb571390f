"""A Debian base of a few files, none of which runs: enough for images and layers to be packed upon."""

from __future__ import annotations

from pathlib import Path

from lsbuild.api import Bundle
from lsbuild.packing.archive import ZIP_EPOCH, Member, with_folders, write_tar


def with_base(bundle: Bundle, folder: Path, python: str = "3.13") -> Bundle:
    """The bundle with a base of a few files, one of them behind two names."""
    folder.mkdir(exist_ok=True)
    library = "usr/lib/x86_64-linux-gnu"
    base = [
        Member(f"usr/bin/python{python}", b"interpreter", 0o755),
        Member(f"usr/lib/python{python}/os.py", b"import sys\n"),
        Member(f"{library}/libz.so.1.3", b"library"),
        Member(f"{library}/libz.so.1", link="libz.so.1.3"),
        Member(f"{library}/ld-linux-x86-64.so.2", b"loader", 0o755),
        Member("etc/ssl/certs/ca-certificates.crt", b"certificates"),
        Member("lib", link="usr/lib"),
        Member("usr/share/doc/zlib1g/copyright", b"licence"),
    ]
    with (folder / "rootfs.tar").open("wb") as stream:
        write_tar(stream, with_folders(base), ZIP_EPOCH)
    return Bundle(bundle.platform, bundle.manifest, bundle.files, {"rootfs": folder})
