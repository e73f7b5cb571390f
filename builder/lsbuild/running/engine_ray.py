"""Steps on a Ray cluster: what a step may read is sent to a worker, what it wrote is streamed back into the store.

Only steps that say so (``Step.spread``) leave this machine. A worker runs the very process that the local engine runs
(``job.Processes``), so the output cannot depend on the engine; it refuses a step when its code or its tools differ from
ours. A lost worker costs the time of its step: the step starts again on another.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lsbuild import facts
from lsbuild.api import Step, StepError
from lsbuild.running.engine_local import Local
from lsbuild.running.job import Ended, Job, Progress
from lsbuild.running.ray_task import Order, packed, perform

ATTEMPTS = 4
"""How often a step is begun when the machine or the process that runs it is lost."""
_AHEAD = 8
"""Pieces of output that a worker may be ahead of us; it waits then, so that no memory fills up."""

_REACH_SECONDS = 5.0


class Ray:
    """Joins the cluster of RAY_ADDRESS, or starts one on this machine. StepError when there is none to join."""

    def __init__(self, local: Local, jobs: int | None, paths: tuple[Path, ...]) -> None:
        self._ray = _import()
        self._local = local
        self._paths = tuple(str(path) for path in paths)
        self._folders: dict[Path, Any] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._here = threading.Semaphore(local.slots)
        self._connect(jobs)
        self.slots = local.slots + (jobs or int(self._ray.cluster_resources().get("CPU", 1)))
        self._perform = self._ray.remote(num_cpus=1, max_retries=0, _generator_backpressure_num_objects=_AHEAD)(perform)

    def run(self, step: Step, job: Job, log: Path, progress: Progress) -> Ended:
        """Run it on a worker when it may be spread, else here."""
        if not step.spread:
            with self._here:
                return self._local.run(step, job, log, progress)
        order = self._order(step, job)
        for _ in range(ATTEMPTS):
            if self._stopped.is_set():
                raise StepError("the build was stopped")
            try:
                return self._once(order, job, log, progress)
            except self._ray.exceptions.RayTaskError as error:
                raise StepError(f"a Ray worker failed: {error.cause!r}", where=step.name) from error
            except self._ray.exceptions.RayError as error:
                lost = error
                _empty(job.out)
        raise StepError(
            f"its worker was lost {ATTEMPTS} times; the last time: {str(lost).splitlines()[0]}",
            where=step.name,
            hint="Look at the cluster (ray status), give its workers more memory, or build with --engine local.",
        ) from lost

    def stop(self) -> None:
        """Kill the local processes and cut every stream; the workers end their processes with it."""
        self._stopped.set()
        self._local.stop()
        self._ray.shutdown()

    def close(self) -> None:
        """Leave the cluster; one that was started for this build ends."""
        self._ray.shutdown()

    def _connect(self, jobs: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = os.environ.get("RAY_ADDRESS")
        # Asking for resources of a cluster that exists already is an error, so they are named only for our own.
        own: dict[str, Any] = {} if address else {"num_cpus": jobs or self._local.slots, "include_dashboard": False}
        try:
            _reach(address)
            self._ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
        except (OSError, RuntimeError, ValueError) as error:
            raise StepError(
                f"cannot join the Ray cluster at {address or 'this machine'}: {str(error).splitlines()[0]}",
                where="--engine ray",
                hint="Start one with 'ray start --head' and set RAY_ADDRESS, or build with --engine local.",
            ) from error

    def _order(self, step: Step, job: Job) -> Order:
        expected = facts.gather((step,))
        return Order(
            run=job.run,
            options=dict(job.options),
            sources={
                local: (source.uri, source.revision, [(file.path, file.sha256, file.size) for file in source.files])
                for local, source in job.sources.items()
            },
            code=dict(expected.code),
            tools=dict(expected.tools),
            paths=self._paths,
            memo=job.memo.salt if job.memo else "",
        )

    def _once(self, order: Order, job: Job, log: Path, progress: Progress) -> Ended:
        put = self._ray.put
        inputs = {local: self._folder(folder) for local, folder in job.inputs.items()}
        files = {
            file.sha256: put(file.location.read_bytes()) for source in job.sources.values() for file in source.files
        }
        stream = self._perform.remote(order, list(inputs), list(files), *inputs.values(), *files.values())
        return receive((self._ray.get(reference) for reference in stream), job.out, log, progress)

    def _folder(self, folder: Path) -> Any:
        """An input folder as an object of the cluster, put there once."""
        with self._lock:
            if folder not in self._folders:
                self._folders[folder] = self._ray.put(packed(folder))
            return self._folders[folder]


def _reach(address: str | None) -> None:
    """OSError when nobody listens at ``HOST:PORT``: Ray itself would wait for ever."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()


def receive(events: Iterator[Mapping[str, Any]], out: Path, log: Path, progress: Progress) -> Ended:
    """Write what a worker sends: its log, the pieces of its files in order; returns how it ended."""
    for event in events:
        match event["event"]:
            case "progress":
                progress(event["done"], event["total"], event["label"])
            case "log":
                log.write_bytes(event["data"])
            case "piece":
                path = out / event["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as file:
                    file.write(event["data"])
                path.chmod(event["mode"])
            case "ended":
                return Ended(event["last"], event["status"])
    raise StepError("a worker ended without saying how")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            with suppress(FileNotFoundError):
                path.unlink()


def _import() -> Any:
    try:
        import ray
    except ImportError as error:
        raise StepError(
            "Ray is not installed", where="--engine ray", hint="Install it with: pip install 'lsbuild[ray]'"
        ) from error
    return ray
