"""Does what a plan says: takes a step's output from the store, or runs it in a process of its own and commits it.

It never decides what to run. One thread waits for each running process, so a step that waits for another build's lock
holds up nobody; a process dies with its parent because it watches its stdin (``worker``).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsbuild import disk, errors
from lsbuild.api import Problem, Source
from lsbuild.errors import LsbuildError, SpecError, StepError
from lsbuild.monitor import Monitor
from lsbuild.plan import Plan, Planned
from lsbuild.store import Meta, Store


def execute(
    plan: Plan, store: Store, monitor: Monitor, workers: int | None, paths: Sequence[Path] = ()
) -> dict[str, Path]:
    """Step name -> folder with its output, for every step of ``plan``.

    At most ``workers`` steps run at a time (None: as many as there are cores). ``paths`` are put on the import path of
    their processes (local plugins). The first error stops what still runs and is raised; what was committed by then
    stays. Errors of lsbuild keep their class and gain the step's name, others become StepError with the path of the log.
    """
    crew = _Crew(store, monitor, tuple(paths))
    done: dict[str, Path] = {}
    waiting = list(plan.steps)
    running: dict[Future[Path], Planned] = {}
    with ThreadPoolExecutor(max_workers=max(1, workers or os.cpu_count() or 1), thread_name_prefix="step") as pool:
        try:
            while waiting or running:
                for planned in [each for each in waiting if all(need in done for need in each.step.needs.values())]:
                    waiting.remove(planned)
                    inputs = {local: done[name] for local, name in planned.step.needs.items()}
                    running[pool.submit(crew.get, planned, inputs)] = planned
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    done[running.pop(future).step.name] = future.result()
        except BaseException:
            crew.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return done


@dataclass
class _Crew:
    """The running processes of one ``execute`` and the way to stop them all."""

    store: Store
    monitor: Monitor
    paths: tuple[Path, ...]
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def get(self, planned: Planned, inputs: Mapping[str, Path]) -> Path:
        """The step's output, from the store or made now."""
        name, key = planned.step.name, planned.key
        start = time.monotonic()
        if planned.cached and self.store.has(key):
            self.monitor.finished(name, 0.0, cached=True)
            return self.store.use(key)
        with self.store.claim(key) as out:
            if self.store.has(key):
                self.monitor.finished(name, time.monotonic() - start, cached=True)
                return self.store.use(key)
            self.monitor.started(name, planned.reason)
            try:
                meta = self._run(planned, inputs, out)
                place = self.store.commit(key, out, meta)
            except LsbuildError as error:
                self.monitor.failed(name, error.what)
                raise
        self.monitor.finished(name, time.monotonic() - start, cached=False)
        return place

    def stop(self) -> None:
        """Kill every process group that still runs."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _run(self, planned: Planned, inputs: Mapping[str, Path], out: Path) -> Meta:
        name = planned.step.name
        log = self.store.log(name)
        start = time.monotonic()
        reader, writer = os.pipe()
        with log.open("wb") as stream, os.fdopen(reader, encoding="utf-8") as events:
            process = self._start(writer, stream.fileno())
            try:
                last = self._follow(process, _job(planned, inputs, out), events, name)
            finally:
                self._end(process)
        if last.get("event") != "done":
            raise _error(last, name, log, process.returncode, self.store.root, out)
        return Meta(
            step=name,
            facts=last["facts"],
            seconds=round(time.monotonic() - start, 3),
            cpu_seconds=round(last["cpu"], 3),
            rss=last["rss"],
        )

    def _start(self, writer: int, log: int) -> subprocess.Popen[bytes]:
        places = [*(str(path) for path in self.paths), *(entry for entry in sys.path if entry)]
        try:
            with self._lock:
                if self._stopped:
                    raise StepError("the build was stopped")
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, "-P", "-m", "lsbuild.worker", str(writer)],
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

    def _follow(self, process: subprocess.Popen[bytes], job: bytes, events: Any, name: str) -> dict[str, Any]:
        """Pass progress on until the pipe ends; the last event says how it went."""
        last: dict[str, Any] = {}
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.write(job)
                process.stdin.flush()
        for line in events:
            last = json.loads(line)
            if last["event"] == "progress":
                self.monitor.progress(name, last["done"], last["total"], last["label"])
        return last

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


def _job(planned: Planned, inputs: Mapping[str, Path], out: Path) -> bytes:
    step = planned.step
    job = {
        "run": step.run,
        "options": step.options,
        "sources": {local: _source(source) for local, source in step.sources.items()},
        "inputs": {local: str(folder) for local, folder in inputs.items()},
        "out": str(out),
    }
    return json.dumps(job).encode() + b"\n"


def _source(source: Source) -> dict[str, Any]:
    files = [[file.path, str(file.location), file.sha256, file.size] for file in source.files]
    return {"uri": source.uri, "revision": source.revision, "files": files}


def _error(last: Mapping[str, Any], name: str, log: Path, status: int, cache: Path, out: Path) -> LsbuildError:
    """The exception for a step that did not end with ``done``."""
    kind = last.get("kind", "") if last.get("event") == "error" else None
    hint = f"Its output is in {log}"
    if kind is None:
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if status == -signal.SIGKILL:
            hint += "; SIGKILL often means that memory ran out: try a smaller model or fewer --workers"
        return StepError(f"its process {how}", where=name, hint=hint)
    if kind == "SpecError":
        return SpecError([Problem(tuple(path), message, where) for path, message, where in last["problems"]])
    if kind == "OSError" and last["errno"] in {errno.ENOSPC, errno.EDQUOT}:
        return disk.full(cache, out)
    known = getattr(errors, str(kind), None)
    if isinstance(known, type) and issubclass(known, LsbuildError):
        where = f"{name}: {last['where']}" if last["where"] else name
        return known(last["what"], where=where, hint=last["hint"])
    return StepError(last["what"], where=name, hint=hint)
