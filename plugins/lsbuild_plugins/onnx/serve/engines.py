"""Keeps the engines that TensorRT builds, so that only the first start on a device takes minutes.

An engine is of one model, one TensorRT, one kind of GPU and one precision: the folder it lies in is named after these. It
is written under another name and renamed when it is whole and on the disk, so a device that loses power has either a
whole one or none. Engines of other models and versions are removed then.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lsbuild_runtime.state_lock import turn

BUILDING = ".building-"
"""How folders begin that nobody finished."""
ENDING = ".engine"

OpenIn = Callable[[Path], Any]
"""A session whose engines lie in, or are written to, a folder."""


def key_of(files: Sequence[Path], facts: Sequence[str]) -> str:
    """Names what engines are of: the bytes of the graph and its weights, and ``facts`` (versions, GPU, precision)."""
    digest = hashlib.sha256("\0".join(facts).encode())
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:24]


def open_cached(folder: Path, key: str, open_in: OpenIn, tell: Callable[[str], None]) -> Any:
    """The session with engines from ``folder/key``; they are built when they are not there, or cannot be used.

    Raises what ``open_in`` raises, and OSError for a disk that is full; nothing half written is kept then.
    """
    place = folder / key
    with turn(folder) as ours:
        if not ours:
            raise OSError("another server on this state folder is building engines")
        _remove(folder, lambda name: name.startswith(BUILDING))
        if place.is_dir():
            try:
                return open_in(place)
            except Exception:  # of another driver, or damaged: nothing of it can be mended
                shutil.rmtree(place)
        tell("building engines")
        return _built(folder, place, open_in)


def _built(folder: Path, place: Path, open_in: OpenIn) -> Any:
    building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=folder))
    try:
        session = open_in(building)
        if not any(path.name.endswith(ENDING) for path in building.iterdir()):
            return session  # TensorRT is not there, or took nothing of this graph: nothing to keep, nothing to replace
        del session  # it would go on writing where its folder was
        _to_disk(building)
        building.rename(place)
        _sync(folder)
        _remove(folder, lambda name: name != place.name)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return open_in(place)


def _remove(folder: Path, stale: Callable[[str], bool]) -> None:
    for path in folder.iterdir():
        if path.is_dir() and stale(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _to_disk(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
