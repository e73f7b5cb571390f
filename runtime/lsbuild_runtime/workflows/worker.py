"""Works at the runs of workflows: on a few threads those that nobody waits for, and for a request the one it waits for.

Of all processes on one state folder one works at a time: who holds a lock that the kernel gives back when the process ends.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lsbuild_runtime.background import Background
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.state_lock import OTHER_PROCESS_SECONDS, turn
from lsbuild_runtime.workflows.course import Event, Stopped, Waiting
from lsbuild_runtime.workflows.kept import Fault, Kept, Question, Run, Runs

if TYPE_CHECKING:
    from lsbuild_runtime.workflows.service import Workflows

WIDTH = 4
"""Runs that are worked at at a time, beside those that requests wait for."""
MOST_TRIES = 4
"""A run that ends its server so often is failed."""
EXPIRE_SECONDS = 600.0


class Worker:
    """One thread that hands out the work, and the threads that do it."""

    def __init__(self, workflows: Workflows, runs: Runs, folder: Path) -> None:
        self._workflows = workflows
        self._runs = runs
        self._folder = folder
        self._held: ExitStack | None = None
        self._lock = threading.Lock()
        self._busy: dict[str, tuple[Context, threading.Thread]] = {}
        self._expire_at = 0.0
        self._background = Background("workflows", self._hand_out, self._report)

    def wake(self) -> None:
        """There may be something to do; starts the thread when it does not run yet."""
        self._background.wake()

    def stop(self, seconds: float = 5.0) -> None:
        """Give up the current steps (their runs stay queued) and end the threads."""
        until = time.monotonic() + seconds
        self._background.stopping.set()
        with self._lock:
            busy = list(self._busy.values())
        for context, _ in busy:
            context.cancel.set()
        self._background.stop(seconds)
        for _, working in busy:
            working.join(max(0.0, until - time.monotonic()))
        with self._lock:
            if self._held is not None:
                self._held.close()
                self._held = None

    def cancel(self, run_id: str) -> None:
        """Stop the current step of a run that was cancelled."""
        with self._lock:
            busy = self._busy.get(run_id)
        if busy is not None:
            busy[0].cancel.set()

    def mine(self) -> bool:
        """Whether this process is the one that works; it is from then on. What another has left is queued again."""
        with self._lock:
            if self._held is not None:
                return True
            held = ExitStack()
            if not held.enter_context(turn(self._folder)):
                held.close()
                return False
            try:
                self._runs.left()  # before anyone here takes a run, for that would be queued again as well
            except BaseException:
                held.close()
                raise
            self._held = held
        return True

    def work(self, run: Run, context: Context) -> Iterator[Event]:
        """Work at a run that was taken, to its end or to a question, and keep how that ended; its events as they come.

        Where the context ends before the run it is queued again, to go on in the background. Raises Cancelled, and what
        `kept` raises.
        """
        with self._lock:
            self._busy[run.id] = (context, threading.current_thread())
        try:
            opened = self._workflows.get(run.workflow)
            _refuse(run, opened.workflow.version)
            course = opened.course(run.input, Kept(self._runs, run))
            output = yield from course.run(context)
            self._runs.complete(run, output)
        except Waiting as waiting:
            self._runs.wait(run, Question(waiting.path, waiting.question))
        except Stopped as stopped:
            self._runs.fail(run, Fault(stopped.code, stopped.message, stopped.path))
        except (Cancelled, GeneratorExit):
            self._runs.put_back(run)  # one that a client cancelled stays so
            raise
        except ApiError as error:
            if time.monotonic() > context.deadline:
                self._runs.put_back(run)  # the request ends, not the run
            else:
                self._runs.fail(run, Fault(error.code or "server_error", error.message))
        finally:
            with self._lock:
                self._busy.pop(run.id, None)
            self.wake()

    def _hand_out(self) -> float:
        """Begin with what is queued; the seconds until the next look."""
        if not self.mine():
            return OTHER_PROCESS_SECONDS
        if time.monotonic() >= self._expire_at:
            self._expire()
            self._expire_at = time.monotonic() + EXPIRE_SECONDS
        self._begin_some()
        return EXPIRE_SECONDS

    def _report(self, error: Exception) -> None:
        with self._workflows.observe("workflows").span("workflows queue") as span:
            span.set(error=error)

    def _begin_some(self) -> None:
        while not self._background.stopping.is_set() and len(self._busy) < WIDTH:
            run = self._runs.take()
            if run is None:
                return
            context = Context(request_id=run.id, deadline=time.monotonic() + 1e9, watch=self._workflows.observe(run.id))
            thread = threading.Thread(target=self._work_alone, args=(run, context), name=run.id, daemon=True)
            with self._lock:
                self._busy[run.id] = (context, thread)
            thread.start()

    def _work_alone(self, run: Run, context: Context) -> None:
        with context.watch.span("workflow run", **{"lsbuild.workflow": run.workflow, "run": run.id}) as span:
            try:
                for _ in self.work(run, context):
                    pass
            except Cancelled:
                span.set(outcome="stopped")
            except Exception as error:  # a fault of ours must not end the thread unheard, nor leave the run begun
                span.set(error=error)
                with contextlib.suppress(ApiError):
                    self._runs.fail(run, Fault("server_error", "internal error; the server's log has it"))

    def _expire(self) -> None:
        for service in self._workflows.listing():
            with contextlib.suppress(ApiError):  # one that cannot be opened now has its turn later
                self._runs.expire(service.name, self._workflows.get(service.name).workflow.keep)


def _refuse(run: Run, version: str) -> None:
    """ApiError for a run that must not go on."""
    if run.version != version:
        raise ApiError(409, "the workflow was changed while the run was under way", code="workflow_changed")
    if run.tries > MOST_TRIES:
        message = f"tried {MOST_TRIES} times; the server ended each time, and its log says why"
        raise ApiError(500, message, type="server_error", code="server_error")
