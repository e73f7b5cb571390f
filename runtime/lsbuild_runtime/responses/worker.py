"""The one thread that works at responses nobody waits for: those in the background, and those that a killed server left."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

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
_LONGEST_PAUSE = 60.0


class Worker:
    """Takes one response after the other, the oldest first, and looks again when it is woken or ``Limits.lease`` is over."""

    def __init__(self, responses: Responses, app: Site, keeping: Keeping) -> None:
        self._responses = responses
        self._app = app
        self._keeping = keeping
        self._limits = keeping.records.limits
        self._signal = threading.Event()
        self._stopping = threading.Event()
        self._current: Context | None = None
        self._thread = threading.Thread(target=self._run, name="responses", daemon=True)

    def start(self) -> None:
        """Begin the thread; it looks for work when it is woken, and in a while."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._signal.set()

    def stop(self, seconds: float = 5.0) -> None:
        """Give up the current response (it stays to be gone on with) and end the thread."""
        self._stopping.set()
        self._signal.set()
        current = self._current
        if current is not None:
            current.cancel.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        failed = 0
        expire_at = 0.0
        while True:
            self._signal.wait(min(2.0**failed, _LONGEST_PAUSE) if failed else self._limits.lease)
            self._signal.clear()
            if self._stopping.is_set():
                return
            try:
                if time.monotonic() >= expire_at:
                    self._keeping.records.expire()
                    expire_at = time.monotonic() + EXPIRE_SECONDS
                while not self._stopping.is_set() and (kept := self._keeping.records.take(self._keeping.owner)):
                    self._work(kept)
                failed = 0
            except Exception as error:  # what is kept cannot be read just now
                failed += 1
                with self._app.observe("responses").span("responses queue") as span:
                    span.set(error=error)

    def _work(self, kept: Kept) -> None:
        context = Context(
            request_id=kept.id,
            deadline=time.monotonic() + self._limits.deadline,
            watch=self._app.observe(kept.id),
        )
        self._current = context
        if self._stopping.is_set():
            context.cancel.set()
        tape = Tape() if kept.background else None
        self._responses.live.begin(kept.id, context, tape)
        try:
            for _ in self._course(kept, context, tape).unattended(self._first(kept)):
                pass
        except Cancelled:
            pass
        except ApiError as error:
            self._give_up(kept, error)
        finally:
            self._responses.live.end(kept.id)
            self._current = None

    def _course(self, kept: Kept, context: Context, tape: Tape | None) -> Course:
        """The rest of a response; ApiError when it cannot be made again, or was tried too often."""
        if kept.tries >= MOST_TRIES:
            message = f"Tried {MOST_TRIES} times; the server ended each time. Its log says why."
            raise ApiError(500, message, type="server_error", code="server_error")
        begun = msgspec.json.decode(kept.run, type=Begun)
        work = again(self._app, converted(begun.request), begun, kept)
        context.affinity = work.affinity
        steps = self._keeping.records.steps(kept.id)
        return Course(
            self._app, work, context, self._responses.leaving, self._responses.clock, self._keeping, tape, steps
        )  # fmt: skip

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
