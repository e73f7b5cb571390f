"""What a Ray worker does for one step: lays out its inputs, runs it in a process, streams back what it wrote; no Ray here.

It runs on the worker's machine with the worker's own installation of lsbuild.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsbuild import facts
from lsbuild.api import Json, Source, SourceFile
from lsbuild.disk import folder_from
from lsbuild.running.job import Ended, Job, Processes
from lsbuild.running.memo import Memo

PIECE = 4 << 20
"""Bytes of a file that travel as one object."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of an input: path -> (mode, bytes); ``key`` is a hash of them all."""

    key: str
    files: dict[str, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Order:
    """A job without places: ``sources`` is local name -> (uri, revision, [(path, sha256, size)]).

    ``memo`` is the salt of what the step remembers, which it does in the cache of the worker's own machine.
    """

    run: str
    options: dict[str, Json]
    sources: dict[str, tuple[str, str, list[tuple[str, str, int]]]]
    code: dict[str, str]
    tools: dict[str, str]
    paths: tuple[str, ...]
    memo: str = ""


def packed(folder: Path) -> Folder:
    """Read a folder with all below it."""
    files = {
        path.relative_to(folder).as_posix(): (path.stat().st_mode & 0o777, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    digest = hashlib.sha256()
    for name, (mode, data) in files.items():
        digest.update(f"{name}\0{mode}\0{hashlib.sha256(data).hexdigest()}\0".encode())
    return Folder(digest.hexdigest(), files)


def perform(order: Order, inputs: Sequence[str], sha256s: Sequence[str], *objects: Any) -> Iterator[Event]:
    """Events of one step: ``progress``, then ``log``, ``piece`` for each part of each file, and ``ended``.

    ``objects`` are a Folder for each name in ``inputs``, then the bytes of each file in ``sha256s``.
    """
    sys.path[:0] = [path for path in order.paths if path not in sys.path]
    difference = _difference(order)
    if difference:
        yield _ended(Ended({"event": "error", "kind": "StepError", **difference}, 0))
        return
    with tempfile.TemporaryDirectory(prefix="lsbuild-step-") as place:
        root = Path(place)
        folders = {local: _laid_out(folder) for local, folder in zip(inputs, objects, strict=False)}
        files = {
            sha256: _kept(root / sha256, data) for sha256, data in zip(sha256s, objects[len(inputs) :], strict=True)
        }
        (root / "out").mkdir()
        memo = Memo(folder_from(os.environ), order.memo) if order.memo else None
        job = Job(order.run, order.options, _sources(order, files), folders, root / "out", memo)
        yield from _run(job, root / "log", tuple(map(Path, order.paths)))


def _run(job: Job, log: Path, paths: tuple[Path, ...]) -> Iterator[Event]:
    events: queue.SimpleQueue[Event | Ended | BaseException] = queue.SimpleQueue()
    processes = Processes(paths)

    def progress(done: int, total: int, label: str) -> None:
        events.put({"event": "progress", "done": done, "total": total, "label": label})

    def work() -> None:
        try:
            events.put(processes.run(job, log, progress))
        except BaseException as error:  # must reach the one who waits
            events.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while isinstance(event := events.get(), dict):
            yield event
    finally:
        processes.stop()  # the stream was cut: nobody wants the output any more
    if isinstance(event, BaseException):
        raise event
    yield {"event": "log", "data": log.read_bytes()}
    if event.last.get("event") == "done":
        yield from _pieces(job.out)
    yield _ended(event)


def _pieces(folder: Path) -> Iterator[Event]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, mode = path.relative_to(folder).as_posix(), path.stat().st_mode & 0o777
        with path.open("rb") as file:
            data = file.read(PIECE)
            while True:
                yield {"event": "piece", "path": name, "mode": mode, "data": data}
                if not (data := file.read(PIECE)):
                    break


def _ended(ended: Ended) -> Event:
    return {"event": "ended", "last": dict(ended.last), "status": ended.status}


def _sources(order: Order, files: dict[str, Path]) -> dict[str, Source]:
    return {
        local: Source(
            uri=uri,
            files=tuple(SourceFile(path, files[sha256], sha256, size) for path, sha256, size in rows),
            revision=revision,
        )
        for local, (uri, revision, rows) in order.sources.items()
    }


def _laid_out(folder: Folder) -> Path:
    """The folder on this machine's disk, written by the first step that needs it and kept for the others."""
    place = Path(tempfile.gettempdir(), f"lsbuild-inputs-{os.getuid()}", folder.key)
    if place.is_dir():
        return place
    place.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=place.parent))
    for name, (mode, data) in folder.files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    try:
        fresh.rename(place)
    except OSError:
        if not place.is_dir():  # another step was not faster: this is a real fault
            raise
    return place


def _kept(place: Path, data: bytes) -> Path:
    place.write_bytes(data)
    return place


def _difference(order: Order) -> dict[str, str]:
    """What of this machine's installation is not as on the machine that builds; {} when all is the same."""
    for name, wanted in order.code.items():
        if facts.code_hash(name) != wanted:
            return _unlike(f"the code of {name}")
    for name, wanted in order.tools.items():
        found = facts.version_of(name)
        if found != wanted:
            return _unlike(f"{name} {found or '(not installed)'} instead of {wanted}")
    return {}


def _unlike(what: str) -> dict[str, str]:
    return {
        "what": f"a Ray worker has {what}, so its output could differ",
        "where": os.uname().nodename,
        "hint": "Install the same lsbuild with the same packages on every machine of the cluster.",
    }
