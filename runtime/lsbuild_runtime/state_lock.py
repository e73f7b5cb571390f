"""Of all processes on one state folder one works at a time: a lock that the kernel gives back when its process ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsbuild_runtime.database import unusable

OTHER_PROCESS_SECONDS = 0.25
"""How often a process whose turn it is not looks again."""


@contextmanager
def turn(folder: Path) -> Iterator[bool]:
    """Whether this process is the one that works now; it stays so until the block ends. ApiError 503 where none can be."""
    try:
        lock = (folder / "worker.lock").open("wb")
    except OSError as error:
        raise unusable(folder, error.strerror or "") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
