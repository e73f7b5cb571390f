"""The process that runs one step: reads a job from stdin, writes events to a pipe; ``python -m lsbuild.running.worker FD``.

It stands between ``execute`` and the step's function and knows neither store nor plan. Whatever the step prints goes to
its log, which is this process's stdout and stderr.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

PROGRESS_EVERY = 0.1
"""Seconds between two progress events; the last one (done == total) is always sent."""


def main() -> None:
    """Run the job on stdin and leave exit status 0 when its outcome, good or bad, was reported."""
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1) as events:
        job = json.loads(sys.stdin.readline())
        threading.Thread(target=_die_with_parent, daemon=True).start()
        try:
            facts = _run(job, events)
            _send(events, "done", facts=facts, cpu=_cpu(), rss=_peak())
        except BaseException as error:
            traceback.print_exc()
            _send(events, "error", **describe(error))
    os._exit(0)  # libraries with threads of their own may hang in a normal exit, and there is nothing left to do


def _run(job: Mapping[str, Any], events: IO[str]) -> dict[str, Any]:
    from lsbuild.api import NoMemo, Source, SourceFile, StepContext
    from lsbuild.registry import attribute
    from lsbuild.running.memo import Memo

    run = attribute(job["run"])
    sources = {
        local: Source(
            uri=source["uri"],
            files=tuple(SourceFile(path, Path(place), sha256, size) for path, place, sha256, size in source["files"]),
            revision=source["revision"],
        )
        for local, source in job["sources"].items()
    }
    context = StepContext(
        out=Path(job["out"]),
        options=job["options"],
        sources=sources,
        inputs={local: Path(folder) for local, folder in job["inputs"].items()},
        progress=_reporter(events),
        memo=Memo(Path(job["memo"][0]), job["memo"][1]) if job["memo"] else NoMemo(),
        cache=Path(job["memo"][0]) if job["memo"] else None,
    )
    facts = run(context)
    return json.loads(json.dumps(dict(facts or {}), allow_nan=False))  # type: ignore[no-any-return]


def _reporter(events: IO[str]) -> Any:
    last = 0.0

    def progress(done: int, total: int, label: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY or done == total:
            last = now
            _send(events, "progress", done=done, total=total, label=label)

    return progress


def _send(events: IO[str], event: str, **fields: Any) -> None:
    events.write(json.dumps({"event": event, **fields}) + "\n")
    events.flush()


def describe(error: BaseException) -> dict[str, Any]:
    """An error as JSON: LsbuildErrors keep their class and parts, others become their last line."""
    from lsbuild.errors import LsbuildError, SpecError

    if isinstance(error, SpecError):
        problems = [[list(each.path), each.message, each.where] for each in error.problems]
        return {"kind": "SpecError", "problems": problems}
    if isinstance(error, LsbuildError):
        return {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
    if isinstance(error, OSError) and error.errno is not None:
        return {"kind": "OSError", "errno": error.errno, "what": str(error)}
    return {"kind": "", "what": f"{type(error).__name__}: {error}".rstrip(": ")}


def _die_with_parent() -> None:
    """The parent holds our stdin open as long as it lives; its end is ours, and our children's."""
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


def _cpu() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak() -> int:
    """Peak resident bytes. VmHWM, since ru_maxrss starts from the parent's size after vfork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
