"""Does what a plan says: takes a step's output from the store, or has an engine run it, and commits it.

It never decides what to run. One thread waits for each running step, so a step that waits for another build's lock
holds up nobody.
"""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsbuild import disk, errors
from lsbuild.api import Problem
from lsbuild.errors import LsbuildError, SpecError, StepError
from lsbuild.plan import Plan, Planned
from lsbuild.running.engine import Engine
from lsbuild.running.job import Job
from lsbuild.running.monitor import Monitor
from lsbuild.running.store import Meta, Store

_LOOK_SECONDS = 5.0


def execute(plan: Plan, store: Store, monitor: Monitor, engine: Engine) -> dict[str, Path]:
    """Step name -> folder with its output, for every step of ``plan``.

    At most ``engine.slots`` steps run at a time. The first error stops what still runs and is raised; what was
    committed by then stays. Errors of lsbuild keep their class and gain the step's name, others become StepError with
    the path of the log.
    """
    crew = _Crew(store, monitor, engine)
    done: dict[str, Path] = {}
    waiting = list(plan.steps)
    running: dict[Future[Path], Planned] = {}
    with ThreadPoolExecutor(max_workers=engine.slots, thread_name_prefix="step") as pool:
        try:
            while waiting or running:
                for planned in [each for each in waiting if all(need in done for need in each.step.needs.values())]:
                    waiting.remove(planned)
                    inputs = {local: done[name] for local, name in planned.step.needs.items()}
                    running[pool.submit(crew.get, planned, inputs)] = planned
                # Ctrl-C that comes just before a lock is waited for does not wake that wait: it ends by itself.
                finished, _ = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for future in finished:
                    done[running.pop(future).step.name] = future.result()
        except BaseException:
            engine.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return done


@dataclass(frozen=True, slots=True)
class _Crew:
    """What every thread of one ``execute`` works with."""

    store: Store
    monitor: Monitor
    engine: Engine

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

    def _run(self, planned: Planned, inputs: Mapping[str, Path], out: Path) -> Meta:
        step = planned.step
        log = self.store.log(step.name)
        start = time.monotonic()
        memo = self.store.memo(planned.memo)
        job = Job(step.run, step.options, step.sources, inputs, out, memo)

        def progress(done: int, total: int, label: str) -> None:
            self.monitor.progress(step.name, done, total, label)

        ended = self.engine.run(step, job, log, progress)
        last = ended.last
        if last.get("event") != "done":
            raise _error(last, step.name, log, ended.status, self.store.root, out)
        return Meta(
            step=step.name,
            facts=last["facts"],
            seconds=round(time.monotonic() - start, 3),
            cpu_seconds=round(last["cpu"], 3),
            rss=last["rss"],
        )


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
