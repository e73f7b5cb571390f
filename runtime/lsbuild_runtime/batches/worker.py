"""The one thread that answers the lines of batches; what it has not answered when the server ends is asked by the next one.

A line whose answer is kept is never asked again. It yields: a line begins when no client's request is under way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from lsbuild_runtime.background import Background
from lsbuild_runtime.batches.lines import MOST_LINES, Fault, Line, Unreadable, answered, read, refused
from lsbuild_runtime.batches.records import Batch, Records
from lsbuild_runtime.http import ApiError, Context, Request
from lsbuild_runtime.ports import Usage
from lsbuild_runtime.state_lock import OTHER_PROCESS_SECONDS, turn

if TYPE_CHECKING:
    from lsbuild_runtime.http import Response
    from lsbuild_runtime.routing import Site

PATIENCE = 10.0
"""Seconds that a line waits for a quiet moment; then it is asked anyway, or a busy server would never finish a batch."""
MOST_TRIES = 3
"""A line that ends the process so often is given up."""
MOST_DELAYS = 6
"""How often a line is asked again while a model is overloaded."""
_LONGEST_DELAY = 60.0
LOOK_SECONDS = 30.0
"""After so long a server looks for what another one on its folder has left."""
_KEEP_SECONDS = 2_592_000
"""How long the files of answers stay when the request does not say: 30 days."""
_CLIENT_CLOSED = 499
_OVERLOADED = 429


class _Cached(Struct, frozen=True):
    cached_tokens: int = 0


class _Counted(Struct):
    """Token counts of any answer: chats and vectors name them one way, responses the other."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    prompt_tokens_details: _Cached = _Cached()
    input_tokens_details: _Cached = _Cached()


class _Answer(Struct):
    usage: _Counted | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class Worker:
    """Answers the oldest batch first, half as many lines of it at a time as ``server.concurrency`` says."""

    def __init__(self, site: Site, records: Records) -> None:
        self._site = site
        self._records = records
        self._at_once = max(1, site.manifest.server.concurrency // 2)
        self._background = Background("batches", self._finish_all, self._report)
        self._stopping = self._background.stopping

    def wake(self) -> None:
        """There is something to do; starts the thread when it does not run yet."""
        self._background.wake()

    def stop(self, seconds: float = 5.0) -> None:
        """Give up the lines that are asked just now (they stay queued) and end the thread."""
        self._stopping.set()
        self._site.traffic.nudge()
        self._background.stop(seconds)

    def _report(self, error: Exception) -> None:
        """The disk is full or gone: what is kept is right, and goes on when it can."""
        with self._site.observe("batches").span("batches") as span:
            span.set(error=error)

    def _finish_all(self) -> float:
        """Everything there is; the seconds until the next look, for what another server has left."""
        while not self._stopping.is_set() and self._records.next() is not None:
            with turn(self._records.folder) as mine:
                if not mine:
                    self._stopping.wait(OTHER_PROCESS_SECONDS)
                while mine and not self._stopping.is_set() and (batch := self._records.next()):
                    self._finish(batch)
        return LOOK_SECONDS

    def _finish(self, batch: Batch) -> None:
        """One batch, from wherever it stands, to its end or to the end of this server."""
        try:
            content = self._site.stores.uploads.files.whole(batch.input)[1]
        except ApiError as error:
            if error.status != 404:
                raise
            self._records.fail(batch, [Fault("file_not_found", f"the input file {batch.input} was deleted")])
            return
        lines = list(read(content, batch.endpoint))
        if faults := _faults(lines):
            self._records.fail(batch, faults)
            return
        unreadable = [
            (line.number, refused(line.custom_id, line.fault)) for line in lines if isinstance(line, Unreadable)
        ]
        batch = self._records.begin(batch, len(lines), unreadable)
        asked = [line for line in lines if isinstance(line, Line)]
        if batch.status == "in_progress":
            self._ask_all(batch, asked)
        if not self._stopping.is_set():
            self._finalize(batch, asked)

    def _ask_all(self, batch: Batch, lines: Iterable[Line]) -> None:
        """Each line that has no answer yet, on a thread of its own; raises when an answer cannot be kept."""
        done = self._records.answered(batch)
        room = threading.Semaphore(self._at_once)
        failed: list[Exception] = []

        def ask(line: Line) -> None:
            try:
                self._ask(batch, line)
            except Exception as error:  # told by the thread that waits for this one
                failed.append(error)
            finally:
                room.release()

        for line in lines:
            if line.number in done:
                continue
            room.acquire()
            self._site.traffic.quiet(PATIENCE, self._stopping.is_set)
            if failed or not self._goes_on(batch):
                room.release()
                break
            threading.Thread(target=ask, args=(line,), name="batch", daemon=True).start()
        for _ in range(self._at_once):
            room.acquire()  # all have ended
        if failed:
            raise failed[0]

    def _goes_on(self, batch: Batch) -> bool:
        now = self._records.get(batch.id)
        return now.status == "in_progress" and not self._expired(now) and not self._stopping.is_set()

    def _expired(self, batch: Batch) -> bool:
        return self._site.stores.clock() >= batch.expires_at

    def _ask(self, batch: Batch, line: Line) -> None:
        if self._records.ask(batch, line.number) > MOST_TRIES:
            message = f"line {line.number}: asked {MOST_TRIES} times; the server ended each time. Its log says why."
            fault = Fault("server_error", message, line.number)
            self._records.keep(batch, line.number, refused(line.custom_id, fault), good=False, usage=Usage())
            return
        response = self._patiently(batch, line)
        if response is None:
            self._records.give_back(batch, line.number)
            return
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        answer = answered(line.custom_id, response.status, response.headers["x-request-id"], body)
        good = response.status == 200
        self._records.keep(batch, line.number, answer, good=good, usage=_usage(body) if good else Usage())

    def _patiently(self, batch: Batch, line: Line) -> Response | None:
        """The answer; asked again while the model is overloaded or asks for it. None when the server stops,
        or the batch."""
        for delay in range(MOST_DELAYS + 1):
            response = self._site.background(self._request(batch, line))
            if response.status == _CLIENT_CLOSED:
                return None
            asks = response.headers.get("retry-after")
            if (asks is None and response.status != _OVERLOADED) or delay == MOST_DELAYS:
                return response
            seconds = max(2.0**delay, float(asks or 0))
            if self._stopping.wait(min(seconds, _LONGEST_DELAY)) or not self._goes_on(batch):
                return None
        return None

    def _request(self, batch: Batch, line: Line) -> Request:
        deadline = time.monotonic() + self._site.manifest.server.deadline_s
        context = Context(deadline=deadline, cancel=self._stopping)
        return Request(
            "POST", batch.endpoint, headers={"content-type": "application/json"}, body=line.body, context=context
        )

    def _finalize(self, batch: Batch, asked: Iterable[Line]) -> None:
        """Write the answers into their files. They are named after the batch, so that doing it again changes nothing."""
        now = self._records.get(batch.id)
        done = self._records.answered(batch)
        left = [line for line in asked if line.number not in done]
        cancelled = now.status == "cancelling"
        fault = Fault("batch_expired", "the request was not asked within the completion window")
        given_up = [] if cancelled else [(line.number, refused(line.custom_id, fault)) for line in left]
        self._records.finalize(batch, given_up)
        output = self._written(batch, "output", good=True)
        error = self._written(batch, "error", good=False)
        self._records.end(
            self._records.get(batch.id), "cancelled" if cancelled else "expired" if left else "completed", output, error
        )

    def _written(self, batch: Batch, kind: str, *, good: bool) -> str | None:
        content = self._records.answers(batch, good=good)
        if not content:
            return None
        name = f"{batch.id}_{kind}.jsonl"
        keep = batch.keep or _KEEP_SECONDS
        file_id = f"file-{batch.id.removeprefix('batch_')}{kind[0]}"
        return self._site.stores.uploads.files.add(name, "batch_output", content, keep, file_id).id


def _faults(lines: list[Line | Unreadable]) -> list[Fault]:
    """What makes the whole file useless."""
    if not lines:
        return [Fault("empty_file", "the file has no line; write one request a line, as JSON")]
    if len(lines) > MOST_LINES:
        return [
            Fault("too_many_requests", f"{len(lines)} requests; at most {MOST_LINES} in a batch, so split the file")
        ]
    return []


def _usage(body: bytes) -> Usage:
    try:
        found = _ANSWER.decode(body).usage or _Counted()
    except msgspec.DecodeError:
        return Usage()
    return Usage(
        found.prompt_tokens or found.input_tokens,
        found.completion_tokens or found.output_tokens,
        found.prompt_tokens_details.cached_tokens or found.input_tokens_details.cached_tokens,
    )
