"""The one thread that works at responses nobody waits for: those in the background, and those that a killed server left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from lsbuild_runtime.background import Background
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.responses.course import GAP, Course, Keeping
from lsbuild_runtime.responses.live import Tape
from lsbuild_runtime.responses.preparing import Begun, again
from lsbuild_runtime.responses.records import Kept
from lsbuild_runtime.responses.request import converted

if TYPE_CHECKING:
    from lsbuild_runtime.responses.keeping import Responses
    from lsbuild_runtime.routing import Site

MOST_TRIES = 4
"""A response that ends its server so often is failed."""
EXPIRE_SECONDS = 3600.0


class Worker:
    """Takes one response after the other, the oldest first, and looks again when it is woken or ``Limits.lease`` is over."""

    def __init__(self, responses: Responses, app: Site, keeping: Keeping) -> None:
        self._responses = responses
        self._app = app
        self._keeping = keeping
        self._limits = keeping.records.limits
        self._background = Background("responses", self._look, self._report)
        self._look_at = 0.0
        self._expire_at = 0.0
        self._current: Context | None = None

    def wake(self) -> None:
        """There may be something to do."""
        self._look_at = 0.0
        self._background.wake()

    def wake_later(self) -> None:
        """As ``wake``, when a lease is over: a server that starts asks nothing of the network."""
        self._look_at = time.monotonic() + self._limits.lease
        self._background.wake()

    def stop(self) -> None:
        """Give up the current response (it stays to be gone on with) and end the thread."""
        self._background.stopping.set()
        current = self._current
        if current is not None:
            current.cancel.set()
        self._background.stop()

    def _look(self) -> float:
        now = time.monotonic()
        if now < self._look_at:
            return self._look_at - now
        for response in list(self._responses.unkept):
            self._keeping.records.release(response, self._keeping.owner)
            self._responses.unkept.discard(response)
        if now >= self._expire_at:
            self._keeping.records.expire()
            self._expire_at = now + EXPIRE_SECONDS
        while not self._background.stopping.is_set() and (kept := self._keeping.records.take(self._keeping.owner)):
            self._work(kept)
        return self._limits.lease

    def _report(self, error: Exception) -> None:
        with self._app.observe("responses").span("responses queue") as span:
            span.set(error=error)

    def _work(self, kept: Kept) -> None:
        context = Context(
            request_id=kept.id,
            deadline=time.monotonic() + self._limits.deadline,
            watch=self._app.observe(kept.id),
        )
        self._current = context
        if self._background.stopping.is_set():
            context.cancel.set()
        tape = Tape() if kept.background else None
        self._responses.live.begin(kept.id, context, tape)
        try:
            self._run(kept, context, tape)
        except Cancelled:
            pass
        except Exception:  # how it ended cannot be kept just now
            self._responses.unkept.add(kept.id)
            raise
        finally:
            self._responses.live.end(kept.id)
            self._current = None

    def _run(self, kept: Kept, context: Context, tape: Tape | None) -> None:
        try:
            course = self._course(kept, context, tape)
        except ApiError as error:
            self._give_up(kept, error)
            return
        for _ in course.unattended():
            pass

    def _course(self, kept: Kept, context: Context, tape: Tape | None) -> Course:
        """The rest of a response; ApiError when it cannot be made again, or was tried too often."""
        if kept.tries >= MOST_TRIES:
            message = f"Tried {MOST_TRIES} times; the server ended each time. Its log says why."
            raise ApiError(500, message, type="server_error", code="server_error")
        begun = msgspec.json.decode(kept.run, type=Begun)
        work = again(self._app, converted(begun.request), begun, kept)
        context.affinity = work.affinity
        steps = self._keeping.records.steps(kept.id)
        clock, leaving, first = self._app.clock, self._responses.leaving, self._first(kept)
        return Course(self._app, work, context, leaving, clock, self._keeping, tape, steps, first)

    def _first(self, kept: Kept) -> int:
        """The number of the next event: with room before it when others may have been told and were not kept."""
        events = self._keeping.records.events(kept.id, -1)
        following = events[-1][0] + 1 if events else 0
        return following if kept.status == "queued" else following + GAP

    def _give_up(self, kept: Kept, error: ApiError) -> None:
        """The response cannot even begin: keep that it failed."""
        from lsbuild_runtime.responses.answer import StreamEvent, error_of

        response = self._responses.view(kept)
        response.status = "failed"
        response.error = error_of(error)
        body = msgspec.json.encode(response)
        number = self._first(kept)
        event = StreamEvent(type="response.failed", sequence_number=number, response=response)
        self._keeping.records.end(kept.id, self._keeping.owner, "failed", body, (), [msgspec.json.encode(event)])
