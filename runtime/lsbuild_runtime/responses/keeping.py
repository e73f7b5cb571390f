"""The responses of a server: where they are kept, which it works at, and the one worker for those that nobody waits for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.responses import API, NAME
from lsbuild_runtime.responses.answer import ResponseObject, StreamEvent
from lsbuild_runtime.responses.course import Course, Keeping
from lsbuild_runtime.responses.items import decoded, encoded, shown
from lsbuild_runtime.responses.live import Live
from lsbuild_runtime.responses.preparing import Work, begun_of
from lsbuild_runtime.responses.records import OPEN, Kept, Records
from lsbuild_runtime.responses.request import ResponseRequest
from lsbuild_runtime.services import NO_STATE

if TYPE_CHECKING:
    from lsbuild_runtime.responses.worker import Worker
    from lsbuild_runtime.routing import Site

NOT_BUILT = "not_built"
"""The code of the ApiError when the artifact has nothing to keep responses with."""
POLL_SECONDS = 0.5
"""How often a follower looks for events of a response that another server works at."""
_RESPONSE = msgspec.json.Decoder(ResponseObject)


class Responses:
    """Safe for use from several threads. It opens nothing before it is asked."""

    def __init__(self, app: Site) -> None:
        self.live = Live()
        self.owner = new_id("owner_")
        self.clock = app.clock
        self.unkept: set[str] = set()
        """Responses whose end could not be kept: the worker gives them up as soon as it can, so that they are gone on with."""
        self._closed = threading.Event()
        self._app = app
        self._lock = threading.Lock()
        self._entered = False
        self._worker: Worker | None = None
        self._lease: threading.Thread | None = None

    # Where they are kept

    @property
    def records(self) -> Records:
        """What is kept; ApiError 503 says what to do where nothing is."""
        if self._app.services.find((API,), NAME) is None:
            message = (
                "this artifact keeps no responses; say `state: {provider: inline::sqlite}` under `server` in the spec"
            )
            raise ApiError(503, f"{message} and build again", type="server_error", code=NOT_BUILT)
        found: Records = self._app.services.get(API, NAME)
        return found

    def records_for(self, wanted: ResponseRequest) -> Records | None:
        """Where the response to a request is kept; None where it is not.

        ``store`` is true where something can be kept and the request says nothing. ApiError 503 when it asks for what needs
        a place and there is none.
        """
        if wanted.store is False:
            return None
        try:
            return self.records
        except ApiError as error:
            if error.code not in (NO_STATE, NOT_BUILT) or wanted.store or wanted.background or wanted.conversation:
                raise
            return None

    def _mine(self, records: Records) -> str:
        """This server as an owner."""
        with self._lock:
            if not self._entered:
                records.enter(self.owner)
                self._entered = True
                if records.leases:
                    self._lease = threading.Thread(target=self._renew, args=(records,), name="lease", daemon=True)
                    self._lease.start()
        return self.owner

    def _renew(self, records: Records) -> None:
        """Say that this server is alive while it works at something."""
        while not self._closed.wait(records.limits.lease / 3):
            if len(self.live):
                with contextlib.suppress(ApiError):  # the next time may do
                    records.renew(self.owner)

    # Beginning

    def begin(
        self, work: Work, raw: dict[str, object], records: Records | None, context: Context
    ) -> Iterator[StreamEvent]:
        """The events of a response whose client waits; it stops when they are given up."""
        work.response.store = records is not None
        keeping = None
        if records is not None:
            keeping = Keeping(records, self._mine(records))
            if (
                self._worker is None
            ):  # who keeps responses takes over what other servers leave, also on a folder that was new
                self._work().wake_later()
            records.begin(self._kept(work, raw, "in_progress"), keeping.owner)
        course = Course(self._app, work, context, self.leaving, self.clock, keeping)
        self.live.begin(work.response.id, context, None)
        try:
            yield from course.events()
        except Cancelled:
            raise
        except Exception:
            if records is not None and course.told:
                self.unkept.add(work.response.id)
                self.wake()
            elif records is not None:  # its client is told, and never heard of an id
                records.delete(work.response.id)
            raise
        finally:
            self.live.end(work.response.id)

    def enqueue(self, work: Work, raw: dict[str, object], records: Records) -> ResponseObject:
        """Begin a response in the background; it is kept when this returns."""
        response = work.response
        response.status = "queued"
        events = [
            msgspec.json.encode(StreamEvent(type=f"response.{kind}", sequence_number=number, response=response))
            for number, kind in enumerate(("created", "queued"))
        ]
        records.begin(self._kept(work, raw, "queued"), "", events)
        self.wake()
        return response

    def _kept(self, work: Work, raw: dict[str, object], status: str) -> Kept:
        response = work.response
        return Kept(
            id=response.id,
            created_at=response.created_at,
            status="queued" if status == "queued" else "in_progress",
            model=response.model,
            background=response.background,
            previous=response.previous_response_id or "",
            conversation=work.wanted.conversation_id,
            body=msgspec.json.encode(replace(response, output=[])),
            input=encoded(work.input),
            run=begun_of(work, raw),
        )

    # Those that are kept

    def get(self, response_id: str) -> Kept:
        """A kept response; ApiError 404 when there is none."""
        kept = self.records.get(response_id)
        if kept is None:
            raise not_found(response_id)
        return kept

    def view(self, kept: Kept, include: frozenset[str] = frozenset()) -> ResponseObject:
        """The response as a client sees it: of one that is still worked at, what its finished steps gave."""
        response = _RESPONSE.decode(kept.body)
        response.status = kept.status
        if kept.status in OPEN and (steps := self.records.steps(kept.id)):
            response.output = decoded(bytes(steps[-1].output))
        response.output = [shown(item, include) for item in response.output]
        return response

    def cancel(self, response_id: str) -> Kept:
        """Stop a response; ApiError 400 for one that its client waits for, which is cancelled by closing the connection."""
        kept = self.get(response_id)
        if not kept.background:
            message = "only responses in the background can be cancelled; close the connection of this one"
            raise ApiError(400, message, param="response_id", code="invalid_value")
        if kept.status in OPEN:
            response = self.view(kept, EVERYTHING)
            response.status = "cancelled"
            self.records.cancel(response_id, msgspec.json.encode(response))
            self.live.stop(response_id)
        return self.get(response_id)

    def delete(self, response_id: str) -> None:
        """Forget a response, and stop it."""
        if not self.records.delete(response_id):
            raise not_found(response_id)
        self.live.stop(response_id)

    def follow(self, kept: Kept, after: int, context: Context) -> Iterator[bytes]:
        """The events of a response in the background with a larger number than ``after``, as JSON, until it ends."""
        while not self._closed.is_set():
            tape = self.live.tape(kept.id)
            ended = self.get(kept.id).status not in OPEN
            for number, event in self.records.events(kept.id, after):
                after = number
                yield event
            if tape is not None:
                for number, event in tape.follow(after, context):
                    after = number
                    yield event
            elif ended:
                return
            else:
                context.check()
                context.cancel.wait(POLL_SECONDS)

    # The work

    def leaving(self) -> bool:
        """Whether the server is going down."""
        return self._closed.is_set() or self._app.draining

    def start(self) -> None:
        """Look for what an earlier process, or another server, has left: at once on this machine, over a network in a while."""
        worker = self._work()
        service = self._app.services.find((API,), NAME)
        if service is not None and service.provider.startswith("inline::"):
            worker.wake()
        else:
            worker.wake_later()

    def wake(self) -> None:
        """Something waits for the worker."""
        self._work().wake()

    def _work(self) -> Worker:
        """The worker, begun."""
        records = self.records
        owner = self._mine(records)
        with self._lock:
            if self._worker is None:
                from lsbuild_runtime.responses.worker import Worker

                self._worker = Worker(self, self._app, Keeping(records, owner))
            return self._worker

    def close(self) -> None:
        """Stop the worker; what it has not finished goes on where this server starts again, or another one takes it."""
        self._closed.set()
        if self._worker is not None:
            self._worker.stop()
        if self._lease is not None:
            self._lease.join(5.0)
        if self._entered:
            with contextlib.suppress(ApiError):  # it will be noticed without a word
                self.records.leave(self.owner)
            self.records.close()


EVERYTHING = frozenset({"file_search_call.results"})


def not_found(response_id: str) -> ApiError:
    """A 404 in OpenAI's words."""
    return ApiError(
        404, f"Response with id {response_id[:100]!r} not found.", param="response_id", code="response_not_found"
    )
