"""One job in a process of its own: starts it, follows its events, ends it with all it left behind; it knows no plan.

A process dies with its parent because it watches its stdin (``worker``).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsbuild.api import Json, Source
from lsbuild.errors import StepError
from lsbuild.running.memo import Memo

Progress = Callable[[int, int, str], None]
"""``(done, total, label)``"""


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is told: the function, what it may read, and the folder ``out`` it fills.

    Without ``memo`` the step remembers nothing of earlier runs, which costs time and changes nothing.
    """

    run: str
    options: Mapping[str, Json]
    sources: Mapping[str, Source]
    inputs: Mapping[str, Path]
    out: Path
    memo: Memo | None = None

    def line(self) -> bytes:
        """The job as ``worker`` reads it: one line of JSON."""
        job = {
            "run": self.run,
            "options": self.options,
            "sources": {local: _source(source) for local, source in self.sources.items()},
            "inputs": {local: str(folder) for local, folder in self.inputs.items()},
            "out": str(self.out),
            "memo": [str(self.memo.cache), self.memo.salt] if self.memo else None,
        }
        return json.dumps(job).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended: its last event (``done``, ``error``, or {} when it could say nothing) and the exit status."""

    last: Mapping[str, Any]
    status: int


@dataclass
class Processes:
    """The running processes of one engine and the way to stop them all. ``paths`` are put on their import path."""

    paths: tuple[Path, ...] = ()
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def run(self, job: Job, log: Path, progress: Progress) -> Ended:
        """Run ``job`` to its end; whatever it prints goes to ``log``. StepError after ``stop``."""
        reader, writer = os.pipe()
        with log.open("wb") as stream, os.fdopen(reader, encoding="utf-8") as events:
            process = self._start(writer, stream.fileno())
            try:
                last = _follow(process, job.line(), events, progress)
            finally:
                self._end(process)
        return Ended(last, process.returncode)

    def stop(self) -> None:
        """Kill every process group that still runs; no other is started."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _start(self, writer: int, log: int) -> subprocess.Popen[bytes]:
        places = [*(str(path) for path in self.paths), *(entry for entry in sys.path if entry)]
        try:
            with self._lock:
                if self._stopped:
                    raise StepError("the build was stopped")
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, "-P", "-m", "lsbuild.running.worker", str(writer)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writer,),
                    process_group=0,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONHASHSEED": "0"},
                )
                self._running.add(process)
        finally:
            os.close(writer)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=5)
            os.killpg(process.pid, signal.SIGKILL)  # whatever the step left behind
        process.wait()
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        with self._lock:
            self._running.discard(process)


def _follow(process: subprocess.Popen[bytes], job: bytes, events: Any, progress: Progress) -> dict[str, Any]:
    """Pass progress on until the pipe ends; the last event says how it went."""
    last: dict[str, Any] = {}
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.write(job)
            process.stdin.flush()
    for line in events:
        last = json.loads(line)
        if last["event"] == "progress":
            progress(last["done"], last["total"], last["label"])
    return last


def _source(source: Source) -> dict[str, Any]:
    files = [[file.path, str(file.location), file.sha256, file.size] for file in source.files]
    return {"uri": source.uri, "revision": source.revision, "files": files}
