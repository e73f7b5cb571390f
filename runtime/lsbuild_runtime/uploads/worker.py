"""The one thread that turns queued files into passages of stores; what it has not finished is still queued after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from lsbuild_runtime.background import Background
from lsbuild_runtime.http import ApiError, Cancelled, Watch
from lsbuild_runtime.mutable import StoredFile
from lsbuild_runtime.state_lock import OTHER_PROCESS_SECONDS, turn
from lsbuild_runtime.uploads.prepare import Reader, Unreadable, embed, for_good

if TYPE_CHECKING:
    from lsbuild_runtime.http import Span
    from lsbuild_runtime.stores import Stores
    from lsbuild_runtime.uploads.attached import Attached
    from lsbuild_runtime.uploads.kept import Uploads

IDLE_SECONDS = 600.0
"""How often expiry is looked after when nothing else happens."""
MOST_TRIES = 4
"""A file that ends the process so often is failed."""
MOST_DELAYS = 10
"""A file is failed when its model or its store could not be used so often; the delays between add up to five minutes."""
_LONGEST_DELAY = 60.0


class _Stale(Exception):
    """The file is no longer wanted, or wanted otherwise: whoever changed that has queued what is to be done."""


class _Delay(Struct, frozen=True):
    """When to try again, on the monotonic clock, and how often it was put off by now."""

    until: float = 0.0
    times: int = 0


class Worker:
    """Of all processes on one state folder one works at a time: who holds a lock that the kernel gives back when its
    process ends, so that no file is read twice and a killed server's work goes on at once in the next one.
    """

    def __init__(self, stores: Stores, uploads: Uploads, observe: Callable[[str], Watch]) -> None:
        self._stores = stores
        self._uploads = uploads
        self._reader = Reader(stores.root)
        self._observe = observe
        self._later: dict[int, _Delay] = {}
        """By ticket."""
        self._background = Background("uploads", self._look, self._report)
        self._stopping = self._background.stopping

    def wake(self) -> None:
        """There is something to do; starts the thread when it does not run yet."""
        self._background.wake()

    def stop(self, seconds: float = 5.0) -> None:
        """Give up the current file (it stays queued) and end the thread."""
        self._background.stop(seconds)

    def _look(self) -> float:
        """Do what there is to do; the seconds until the next look."""
        self._stores.expire()
        self._empty_queue()
        now = time.monotonic()
        soonest = min((delay.until for delay in self._later.values()), default=now + IDLE_SECONDS)
        return max(0.05, soonest - now)

    def _empty_queue(self) -> None:
        while not self._stopping.is_set() and self._next() is not None:
            with turn(self._uploads.folder) as mine:
                if not mine:
                    self._stopping.wait(OTHER_PROCESS_SECONDS)
                while mine and not self._stopping.is_set() and (attached := self._next()):
                    self._handle(attached)

    def _next(self) -> Attached | None:
        now = time.monotonic()
        later = {ticket: delay for ticket, delay in self._later.items() if delay.until > now}
        found = self._uploads.attached.next(later)
        if found is None:
            self._later = later  # whose time has come and who is not found is not wanted any more
        return found

    def _handle(self, attached: Attached) -> None:
        delay = self._later.pop(attached.ticket, _Delay())
        watch = self._observe(f"ingest_{attached.ticket}")
        names = {"store": attached.store, "file_id": attached.file_id}
        with watch.span("ingest", **{"gen_ai.operation.name": "ingest", **names}) as span:
            try:
                if attached.status == "in_progress":
                    self._ingest(attached, watch, span)
                else:
                    self._clear(attached)
            except _Stale:
                span.set(outcome="superseded")
            except Cancelled:
                self._uploads.attached.undo(attached.ticket)
                span.set(outcome="stopped")
            except Unreadable as error:
                self._uploads.attached.fail(attached.ticket, error.code, error.message)
                span.set(outcome="failed", reason=error.message)
            except ApiError as error:
                self._refused(attached, error, delay.times + 1, span)
            except Exception as error:  # a reader's or a provider's own fault must not end the thread
                span.set(error=error)
                message = "Internal error while the file was read; the server's log has it."
                self._uploads.attached.fail(attached.ticket, "server_error", message)

    def _ingest(self, attached: Attached, watch: Watch, span: Span) -> None:
        tries = self._uploads.attached.begin(attached.ticket)
        if tries > MOST_TRIES:
            message = f"Tried {MOST_TRIES} times; the server ended or failed each time. Its log says why."
            raise Unreadable("server_error", message)
        file, content = self._uploads.files.whole(attached.file_id)
        store = self._stores.find(attached.store)
        text = self._reader.read(store.service, file.filename, file.id, content, attached.chunking)
        vectors = embed(self._stores.model(store), text.passages, self._stopping, lambda: self._wanted(attached), watch)
        attached = self._wanted(attached)
        port = self._stores.writable(store)
        document = StoredFile(
            file_id=file.id,
            filename=file.filename,
            sha256=file.sha256,
            bytes=file.bytes,
            attributes={**text.attributes, **attached.attributes},
            passages=len(text.passages),
            created_at=attached.created_at,
        )
        port.put(document, text.passages, vectors)
        while not self._uploads.attached.complete(attached):
            attached = self._wanted(attached)  # its attributes were changed meanwhile
            port.set_attributes(file.id, {**text.attributes, **attached.attributes})
        self._stores.touch(store)
        span.set(outcome="completed", passages=len(text.passages))

    def _wanted(self, attached: Attached) -> Attached:
        """The attachment as it is now; _Stale when it is not to be read any more."""
        now = self._uploads.attached.current(attached.ticket)
        if now is None or now.status != "in_progress":
            raise _Stale
        return now

    def _clear(self, attached: Attached) -> None:
        """Take out of the store what was cancelled or deleted while it was on its way."""
        self._stores.remove(attached.store, attached.file_id)
        self._uploads.attached.settle(attached)

    def _refused(self, attached: Attached, error: ApiError, times: int, span: Span) -> None:
        """Fail the file, or try again later when the cause may go away; a removal is tried until it succeeds."""
        reading = attached.status == "in_progress"
        if reading and (for_good(error) or times >= MOST_DELAYS):
            code = "invalid_file" if for_good(error) else "server_error"
            self._uploads.attached.fail(attached.ticket, code, error.message)
            span.set(outcome="failed", reason=error.message)
            return
        if reading:
            self._uploads.attached.undo(attached.ticket)
        seconds = min(2.0 ** (times - 1), _LONGEST_DELAY)
        self._later[attached.ticket] = _Delay(time.monotonic() + seconds, times)
        span.set(outcome="postponed", reason=error.message)

    def _report(self, error: Exception) -> None:
        with self._observe("ingest").span("ingest queue") as span:
            span.set(error=error)
