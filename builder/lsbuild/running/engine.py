"""Where steps run: an engine takes one job at a time from each of its slots and tells how it ended; it plans nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lsbuild.api import Step
from lsbuild.running.engine_local import Local
from lsbuild.running.job import Ended, Job, Progress


class Engine(Protocol):
    """Runs jobs, several at once from several threads. The output of a step does not depend on the engine."""

    slots: int
    """How many jobs may run at the same time."""

    def run(self, step: Step, job: Job, log: Path, progress: Progress) -> Ended:
        """Run ``job`` of ``step`` to its end; ``job.out`` holds its files when it ended with ``done``."""
        ...

    def stop(self) -> None:
        """End what runs, at once, and start no more."""
        ...

    def close(self) -> None:
        """Let go of everything; nothing runs any more."""
        ...


def open_engine(name: str, jobs: int | None, paths: Sequence[Path]) -> Engine:
    """``local``, or ``ray`` (StepError when Ray or its cluster is missing); ValueError for any other name."""
    local = Local(jobs, paths)
    if name == "local":
        return local
    if name != "ray":
        raise ValueError(f"no engine {name!r}; there are local and ray")
    from lsbuild.running.engine_ray import Ray

    return Ray(local, jobs, tuple(paths))
