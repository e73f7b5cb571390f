"""The queue: order, bounds, cancellation, deadlines, and what crosses the threads."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator

import pytest

from lsbuild_plugins.onnx.serve.scheduler import Check, Scheduler
from lsbuild_runtime.http import ApiError, Cancelled, Context

WAIT_S = 10.0


def count(check: Check) -> Iterator[int]:
    yield from range(1, 4)


class Gate:
    """A job that says when it runs and ends when it is let go."""

    def __init__(self) -> None:
        self.entered, self.leave, self.ended = threading.Event(), threading.Event(), threading.Event()

    def start(self, check: Check) -> Iterator[str]:
        self.entered.set()
        try:
            while not self.leave.wait(0.005):
                check()
            yield "done"
        finally:
            self.ended.set()


def blocked(scheduler: Scheduler) -> tuple[Gate, Iterator[str]]:
    gate = Gate()
    stream = scheduler.submit(gate.start, Context())
    assert gate.entered.wait(WAIT_S)
    return gate, stream


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    made = Scheduler("m", 2)
    yield made
    made.close()


def test_items_then_end(scheduler: Scheduler) -> None:
    stream = scheduler.submit(count, Context())
    assert list(stream) == [1, 2, 3]
    assert list(stream) == []


def test_a_full_queue_is_429_with_a_time_to_retry(scheduler: Scheduler) -> None:
    gate, first = blocked(scheduler)
    waiting = [scheduler.submit(count, Context()) for _ in range(2)]
    with pytest.raises(ApiError, match="2 requests wait already") as refused:
        scheduler.submit(count, Context())
    assert (refused.value.status, refused.value.code) == (429, "queue_full")
    assert 1 <= (refused.value.retry_after or 0) <= 60
    gate.leave.set()
    assert list(first) == ["done"]
    assert [list(stream) for stream in waiting] == [[1, 2, 3]] * 2


def test_requests_that_left_make_room(scheduler: Scheduler) -> None:
    gate, _first = blocked(scheduler)
    scheduler.submit(count, Context()).close()
    cancelled = Context()
    _second = scheduler.submit(count, cancelled)
    cancelled.cancel.set()
    kept = scheduler.submit(count, Context())
    gate.leave.set()
    assert list(kept) == [1, 2, 3]


def test_closing_or_dropping_a_stream_stops_its_work(scheduler: Scheduler) -> None:
    gate, stream = blocked(scheduler)
    stream.close()  # type: ignore[attr-defined]
    assert gate.ended.wait(WAIT_S)
    gate, stream = blocked(scheduler)
    del stream
    assert gate.ended.wait(WAIT_S)


def test_cancel_and_deadline_end_a_running_job(scheduler: Scheduler) -> None:
    for error in (Cancelled, ApiError):
        gate, context = Gate(), Context()
        stream = scheduler.submit(gate.start, context)
        assert gate.entered.wait(WAIT_S)
        if error is Cancelled:
            context.cancel.set()
        else:
            context.deadline = time.monotonic()
        with pytest.raises(error):
            next(stream)
        assert gate.ended.wait(WAIT_S)


def test_cancel_and_deadline_end_the_wait_in_the_queue(scheduler: Scheduler) -> None:
    gate, _running = blocked(scheduler)
    late = scheduler.submit(count, Context(deadline=time.monotonic() + 0.01))
    with pytest.raises(ApiError) as error:
        next(late)
    assert error.value.status == 408
    context = Context()
    stream = scheduler.submit(count, context)
    context.cancel.set()
    with pytest.raises(Cancelled):
        next(stream)
    assert not gate.ended.is_set()


def test_an_error_reaches_its_caller_and_the_next_job_runs(scheduler: Scheduler) -> None:
    def fails(check: Check) -> Iterator[int]:
        yield 1
        raise ApiError(503, "broken")

    stream = scheduler.submit(fails, Context())
    assert next(stream) == 1
    with pytest.raises(ApiError, match="broken"):
        next(stream)
    assert list(stream) == []
    assert list(scheduler.submit(count, Context())) == [1, 2, 3]


def test_work_sees_the_callers_context_variables(scheduler: Scheduler) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")

    def look(check: Check) -> Iterator[str]:
        yield variable.get()

    assert list(scheduler.submit(look, Context())) == ["mine"]


def test_close_ends_running_and_waiting_jobs_and_the_thread() -> None:
    scheduler = Scheduler("closing", 2)
    gate, running = blocked(scheduler)
    waiting = scheduler.submit(count, Context())
    scheduler.close()
    assert gate.ended.is_set()
    for stream in (running, waiting):
        with pytest.raises(Cancelled):
            next(stream)
    with pytest.raises(ApiError, match="shutting down"):
        scheduler.submit(count, Context())
    assert not [thread for thread in threading.enumerate() if thread.name == "model-closing"]


def test_a_dropped_scheduler_ends_its_thread() -> None:
    scheduler = Scheduler("dropped", 1)
    assert list(scheduler.submit(count, Context())) == [1, 2, 3]
    del scheduler
    assert not [thread for thread in threading.enumerate() if thread.name == "model-dropped"]
