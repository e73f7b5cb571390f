"""Unpacks a file of zstd as a stream, with the program zstd: Python has it from version 3.14 on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lsbuild import toolbox
from lsbuild.errors import LsbuildError


@contextmanager
def opened(path: Path, where: str, kind: type[LsbuildError]) -> Iterator[IO[bytes]]:
    """The unpacked bytes. Raises ``kind`` (at ``where``) without the program, and for a file that is damaged."""
    tool = toolbox.ZSTD.path()
    if not tool:
        raise kind("is packed with zstd, which is not installed", where=where, hint=toolbox.ZSTD.get)
    words = [tool, "-dcq", str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603
        if process.stdout is None or process.stderr is None:
            raise kind("zstd gave nothing", where=where)
        whole = False
        try:
            yield process.stdout
            whole = not process.stdout.read(1)
        finally:
            # Who stopped reading in the middle ends the program by that; how it ended says nothing then.
            process.stdout.close()
            said = process.stderr.read().decode(errors="replace").strip()
        if process.wait() and whole:
            raise kind(f"is damaged: {said}", where=where, hint="build or download it again")
