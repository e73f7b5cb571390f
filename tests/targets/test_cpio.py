"""The archive that a kernel unpacks as its first root, read back by busybox."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from lsbuild.packing import cpio
from lsbuild.packing.archive import Member

MEMBERS = [
    Member("init", b"#!/bin/sh\n", 0o755),
    Member("bin/busybox", b"x" * 4097, 0o755),
    Member("bin/sh", link="busybox"),
    Member("dev", mode=0o755),
]


def written() -> bytes:
    stream = io.BytesIO()
    cpio.write(stream, MEMBERS)
    return stream.getvalue()


def test_it_is_the_same_every_time_and_aligned() -> None:
    assert written() == written()
    assert len(written()) % 4 == 0
    assert written().count(b"070701") == len(MEMBERS) + 2  # the folder bin, and the trailer


def test_busybox_unpacks_what_was_packed(tmp_path: Path) -> None:
    if shutil.which("busybox") is None:
        pytest.skip("busybox is not installed: apt-get install busybox")
    subprocess.run(["busybox", "cpio", "-idm"], cwd=tmp_path, input=written(), check=True, capture_output=True)
    assert (tmp_path / "bin/busybox").read_bytes() == b"x" * 4097
    assert (tmp_path / "bin/sh").readlink() == Path("busybox")
    assert (tmp_path / "init").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "dev").is_dir()
