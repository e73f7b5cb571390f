"""One response from its beginning to its end: runs it, tells its events, and keeps it after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.agents.runs import CallEnded, Ended, Event, StepDone, Used
from lsbuild_runtime.http import ApiError, Cancelled, Context, Span
from lsbuild_runtime.ports import Usage
from lsbuild_runtime.responses.answer import ResponseObject, StreamEvent
from lsbuild_runtime.responses.called import Listed
from lsbuild_runtime.responses.items import Item, decoded, encoded
from lsbuild_runtime.responses.live import Tape
from lsbuild_runtime.responses.opening import Past, opened
from lsbuild_runtime.responses.preparing import Work
from lsbuild_runtime.responses.records import Entry, Records, Step
from lsbuild_runtime.responses.writer import Writer

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site
    from lsbuild_runtime.tools import Found

GAP = 1_000_000
"""What is added to the number of the next event when a cut run goes on: a client that had seen more than was kept still
gets everything from there on."""
BUSY = (429, 503)
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between the tries of a response in the background that finds its model busy; a Retry-After goes before them."""
LEAST_KEPT = 2
"""Messages that ``truncation: auto`` never drops: the last of the user, and what belongs to it."""


class Lost(Exception):
    """The response is not this server's any more: it was cancelled or deleted, or somebody else has taken it over."""


class Keeping(Struct, frozen=True):
    """Where a response is kept, and by whom."""

    records: Records
    owner: str


class Course:
    """Runs ``work``. Without ``keeping`` nothing outlives the process. ``tape`` takes the events of one in the background.

    ``leaving`` says whether the server is going down: what is cut then is left for the next one to go on with. ``steps``
    are those that an earlier server finished, ``first`` is the number of the first event.
    """

    def __init__(
        self, app: Site, work: Work, context: Context, leaving: Callable[[], bool], clock: Callable[[], float],
        keeping: Keeping | None = None, tape: Tape | None = None, steps: Sequence[Step] = (), first: int = 0,
    ) -> None:  # fmt: skip
        self._app = app
        self._work = work
        self._context = context
        self._leaving = leaving
        self._clock = clock
        self._keeping = keeping
        self._tape = tape
        self._steps = steps
        self._found: list[Found] = []
        self.told = False
        """Whether anybody may have heard of the response."""
        if steps:
            work.response.output = decoded(bytes(steps[-1].output))
        self._writer = Writer(work.response, work.shape, Usage(*steps[-1].usage) if steps else Usage(), first)

    @property
    def response(self) -> ResponseObject:
        """The response as a client sees it now."""
        return self._work.response

    def events(self) -> Iterator[StreamEvent]:
        """Its events; each must be encoded before the next is asked for.

        What fails before the first event of the run is raised, so that it can have a status of its own; what fails later
        is the last event.
        """
        attributes = {"gen_ai.operation.name": "responses", "gen_ai.request.model": self._work.service.name,
                      "gen_ai.response.id": self.response.id}  # fmt: skip
        with self._context.watch.span("response", **attributes) as span:
            try:
                listed, run = self._begin()
            except Cancelled:
                self._cut()
                raise
            try:
                yield from self._told(self._heads())
                yield from self._told(self._bodies(listed, run))
            except (Cancelled, GeneratorExit):
                self._cut()
                raise
            except Lost:
                self._lost()
                return
            except Exception as error:
                yield from self._told(self._writer.fail(fault(error, span)))
            finally:
                close = getattr(run, "close", None)
                if close is not None:
                    close()
            span.set(**{"gen_ai.response.finish_reasons": [self.response.status]})
            yield from self._end()

    def unattended(self) -> Iterator[StreamEvent]:
        """As ``events`` where nobody hears what is raised: it is the last event. Who is only busy is asked again.

        Raises what keeps the end from being kept.
        """
        for pause in (*PAUSES, None):
            try:
                yield from self.events()
                return
            except Cancelled:
                raise
            except Exception as error:
                if self.told:  # how it ended could not be kept: what was done must not be done again here
                    raise
                if not (pause is not None and isinstance(error, ApiError) and error.status in BUSY):
                    yield from self._fail(error)
                    return
                if self._context.cancel.wait(pause if error.retry_after is None else error.retry_after):
                    self._cut()
                    raise Cancelled from None

    def _fail(self, error: Exception) -> Iterator[StreamEvent]:
        """The events of a response that cannot even begin."""
        with self._context.watch.span("response") as span:
            failed = fault(error, span)
        yield from self._told(self._heads())
        yield from self._told(self._writer.fail(failed))
        yield from self._end()

    # The run

    def _begin(self) -> tuple[Sequence[Listed], Iterator[Event]]:
        """What servers offer, and the run with its first event asked for.

        A conversation that is too long is shortened where that is wanted.
        """
        if self._steps and over(self._steps[-1].messages):  # only its end was lost
            return (), iter((Ended("stop"),))
        work = self._work
        past = _past(self._steps)
        while True:
            begun = opened(self._app, work, self._context, past)
            run = iter(begun.runner.run(begun.task, self._context))
            try:
                return () if past else begun.listed, chain([next(run)], run)
            except ApiError as error:
                shorter = shortened(work.chat.messages)
                if error.code != "context_length_exceeded" or work.wanted.truncation != "auto" or not shorter:
                    raise
                work = replace(work, chat=replace(work.chat, messages=shorter))

    def _heads(self) -> Iterator[StreamEvent]:
        if not self.response.background and not self._steps:
            yield self._writer.snapshot("response.created")
        self.response.status = "in_progress"
        yield self._writer.snapshot("response.in_progress")

    def _bodies(self, listed: Sequence[Listed], run: Iterator[Event]) -> Iterator[StreamEvent]:
        for event in chain(listed, run):
            yield from self._writer.take(event)
            if isinstance(event, CallEnded):
                self._found += event.result.found
            if isinstance(event, StepDone):
                self._keep_step(event)

    def _told(self, events: Iterator[StreamEvent]) -> Iterator[StreamEvent]:
        for event in events:
            self.told = True
            if self._tape is not None:
                self._tape.add(event.sequence_number, msgspec.json.encode(event))
            yield event

    # What is kept

    def _keep_step(self, done: StepDone) -> None:
        if self._keeping is None:
            return
        usage = self._writer.usage
        step = Step(
            messages=done.messages,
            output=msgspec.Raw(encoded(self._writer.finished())),
            used=(done.used.steps, done.used.calls, done.used.tokens),
            usage=(usage.prompt, usage.completion, usage.cached),
            tainted=done.tainted,
            sequence=self._writer.sequence,
            found=tuple(self._found),
        )
        self._found.clear()
        events = self._tape.unsaved() if self._tape else []
        if not self._keeping.records.step(self.response.id, self._keeping.owner, step, events):
            raise Lost
        if self._tape:
            self._tape.saved()

    def _end(self) -> Iterator[StreamEvent]:
        """Keep the response as it ended, then tell it: who hears of it may go on from it."""
        self.response.completed_at = int(self._clock()) if self.response.status == "completed" else None
        last = self._writer.snapshot(f"response.{self.response.status}")
        event = msgspec.json.encode(last) if self._tape else b""
        if not self._keep_end([event] if event else []):
            self._lost()
            return
        if self._tape is not None:
            self._tape.add(last.sequence_number, event)
        yield last

    def _lost(self) -> None:
        """Somebody else has ended it: a client that waits is told, one in the background has nobody."""
        if not self.response.background:
            message = "the response was deleted, or taken over by another server, while it was under way"
            raise ApiError(409, message, type="conflict_error", code="response_lost")

    def _keep_end(self, events: Sequence[bytes] = ()) -> bool:
        if self._keeping is None:
            return True
        status: Any = self.response.status
        items = self._writer.output
        whole = msgspec.structs.replace(self.response, output=items)
        return self._keeping.records.end(
            self.response.id,
            self._keeping.owner,
            status,
            msgspec.json.encode(whole),
            entries(items),
            [*(self._tape.unsaved() if self._tape else ()), *events],
            entries(self._work.input),
        )

    def _cut(self) -> None:
        """The client went away, or the server does."""
        if self._leaving():
            return
        self._writer.cancelled()
        self._keep_end()


def entries(items: Sequence[Item]) -> list[Entry]:
    """Items as they are kept."""
    return [Entry(item.id or "", msgspec.json.encode(item)) for item in items]


def fault(error: Exception, span: Span) -> ApiError:
    """What ``error`` is to a client; what nobody expected is logged, and told without what it says."""
    if isinstance(error, ApiError):
        return error
    span.set(error=error)
    return ApiError(
        500, "internal error; the server's log has it under this request's x-request-id", type="server_error"
    )


def shortened(messages: Sequence[Any]) -> list[Any]:
    """The conversation without the oldest quarter of what may go: never instructions, nor the last turn of the user.

    Turns go whole, from one message of the user to the next, so that no result is left without its call. Empty when
    nothing may go.
    """
    instructions = [message for message in messages if message["role"] in ("system", "developer")]
    rest = [message for message in messages if message["role"] not in ("system", "developer")]
    starts = [place for place, message in enumerate(rest) if message["role"] == "user"]
    if len(starts) < LEAST_KEPT:
        return []
    gone = max(1, (len(starts) - 1) // 4)
    return [*instructions, *rest[starts[gone] :]]


def over(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the step that added these messages was a run's last: its answer calls nothing, or waits for somebody else."""
    answer = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    if answer is None:
        return False
    results = {message.get("tool_call_id") for message in messages}
    calls = answer.get("tool_calls") or ()
    return not calls or any(call["id"] not in results for call in calls)


def _past(steps: Sequence[Step]) -> Past | None:
    if not steps:
        return None
    last = steps[-1]
    return Past(
        tuple(message for step in steps for message in step.messages),
        Used(*last.used),
        last.tainted,
        tuple(found for step in steps for found in step.found),
    )
