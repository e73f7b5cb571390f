"""Steps in processes of this machine; the engine that every other one has for what is not spread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lsbuild.api import Step
from lsbuild.running.job import Ended, Job, Processes, Progress


class Local:
    """Processes on this machine, at most ``jobs`` (None: as many as there are cores)."""

    def __init__(self, jobs: int | None = None, paths: Sequence[Path] = ()) -> None:
        self.slots = max(1, jobs or len(os.sched_getaffinity(0)))
        self._processes = Processes(tuple(paths))

    def run(self, step: Step, job: Job, log: Path, progress: Progress) -> Ended:  # noqa: ARG002
        """Run it in a process of its own."""
        return self._processes.run(job, log, progress)

    def stop(self) -> None:
        """Kill the processes."""
        self._processes.stop()

    def close(self) -> None:
        """Nothing is held."""
