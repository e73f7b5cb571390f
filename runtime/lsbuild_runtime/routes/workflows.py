"""/v1/workflows: what workflows there are, and their runs: started, looked up, answered, cancelled, forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from lsbuild_runtime.http import Context, Request, Response, json_response, sse_response
from lsbuild_runtime.ports import Delta
from lsbuild_runtime.routes.paging import limit, one_of
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.workflows.course import StepBegun, Stopped, Waiting
from lsbuild_runtime.workflows.journal import Answer, Entry, Memory
from lsbuild_runtime.workflows.kept import OVER, Fault, Question, Run, new_run
from lsbuild_runtime.workflows.model import asks
from lsbuild_runtime.workflows.service import Workflows

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site
    from lsbuild_runtime.workflows.course import Event
    from lsbuild_runtime.workflows.service import Opened

_STATUSES = ("queued", "in_progress", "waiting", "completed", "failed", "cancelled")
_LOOK_SECONDS = 0.25
"""Between two looks at a run that another process works at."""


class WorkflowObject(Struct):
    """A workflow."""

    id: str
    object: str
    description: str
    input: dict[str, Any]
    steps: list[str]


class WorkflowList(Struct):
    """All workflows."""

    object: str
    data: list[WorkflowObject]


class RunRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """``background`` answers at once, with a run that goes on by itself; ``stream`` sends its steps and the text of the last
    one as they come. Otherwise the answer is the run as it is when it ends, or when it asks a person. With ``store: false``
    nothing of it is kept, and it ends with the request."""

    input: dict[str, Any]
    background: bool = False
    stream: bool = False
    store: bool = True
    metadata: Annotated[dict[str, str], Meta(max_length=16)] = {}


class ApproveRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a person says. ``step`` is what they were asked at, for those who want to be sure."""

    approved: bool
    reason: str = ""
    step: str | None = None


class StepObject(Struct):
    """A step that is over: what it gave, how often it was tried, and how long it took."""

    step: str
    type: str
    output: dict[str, Any]
    attempts: int
    ms: float


class RunObject(Struct, kw_only=True):
    """A run. ``stored`` says whether it can be looked up later."""

    id: str
    object: str = "workflow.run"
    workflow: str
    status: str
    created_at: int
    ended_at: int | None
    input: dict[str, Any]
    output: Any
    error: Fault | None
    waiting_for: Question | None
    steps: list[StepObject]
    metadata: dict[str, str]
    stored: bool


class RunPage(Struct):
    """Runs, without their steps."""

    object: str
    data: list[RunObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class RunDeleted(Struct):
    """A run was forgotten."""

    id: str
    object: str
    deleted: bool


class RunEvent(Struct, omit_defaults=True, kw_only=True):
    """``step.started``, ``step.completed``, ``output_text.delta``, and ``run.STATUS`` with the whole run at the end."""

    type: str
    step: str = ""
    attempt: int = 0
    output: dict[str, Any] | None = None
    delta: str = ""
    run: RunObject | None = None


_RUN = msgspec.json.Decoder(RunRequest)
_APPROVE = msgspec.json.Decoder(ApproveRequest)


def listing(app: Site, _request: Request, _: str) -> Response:
    """All workflows, in the order of the spec."""
    found = [_described(app.kept(Workflows).get(service.name)) for service in app.kept(Workflows).listing()]
    return json_response(WorkflowList("list", found))


def retrieve(app: Site, _request: Request, name: str) -> Response:
    """One workflow."""
    return json_response(_described(app.kept(Workflows).get(name)))


def start(app: Site, request: Request, name: str) -> Response:
    """Begin a run. It is kept where the server has a state folder; without one it ends with the request."""
    wanted = decode(request, _RUN)
    workflows = app.kept(Workflows)
    opened = workflows.get(name)
    given = opened.checked(wanted.input)
    if wanted.background and wanted.stream:
        raise refused("stream", "not with background: what is streamed is waited for")
    if wanted.background and not wanted.store:
        raise refused("store", "a run in the background has to be kept")
    run = new_run(name, opened.workflow.version, given, wanted.metadata, int(workflows.clock()))
    if wanted.store and (workflows.keeps or wanted.background):
        workflows.runs.add(run)
        if wanted.background:
            workflows.worker.wake()
            return json_response(_shown(run, []), 202)
        events = _kept(app, run, request.context)
    else:
        events = _unkept(opened, run, request.context)
    if wanted.stream:
        return sse_response(events)
    last = None
    for event in events:
        last = event.run
    return json_response(last)


def runs(app: Site, request: Request, name: str) -> Response:
    """The runs of a workflow, newest first."""
    app.kept(Workflows).get(name)
    size = limit(request.query)
    order = one_of(request.query, "order", ("asc", "desc"), "desc")
    status = one_of(request.query, "status", _STATUSES, "") if "status" in request.query else None
    found = app.kept(Workflows).runs.listing(name, status, size + 1, order, request.query.get("after"))
    shown = [_shown(run, []) for run in found[:size]]
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return json_response(RunPage("list", shown, first, last, len(found) > size))


def run(app: Site, _request: Request, name: str, run_id: str) -> Response:
    """One run with its steps."""
    return json_response(_looked_up(app, name, run_id))


def approve(app: Site, request: Request, name: str, run_id: str) -> Response:
    """A person's answer to a waiting run, which goes on in the background."""
    wanted = decode(request, _APPROVE)
    app.kept(Workflows).runs.answer(name, run_id, wanted.step, Answer(wanted.approved, wanted.reason))
    app.kept(Workflows).worker.wake()
    return json_response(_looked_up(app, name, run_id))


def cancel(app: Site, _request: Request, name: str, run_id: str) -> Response:
    """End a run; one that is over stays what it is."""
    app.kept(Workflows).runs.cancel(name, run_id)
    app.kept(Workflows).worker.cancel(run_id)
    return json_response(_looked_up(app, name, run_id))


def delete(app: Site, _request: Request, name: str, run_id: str) -> Response:
    """Forget a run that is over."""
    app.kept(Workflows).runs.delete(name, run_id)
    return json_response(RunDeleted(run_id, "workflow.run.deleted", deleted=True))


def _described(opened: Opened) -> WorkflowObject:
    plan = opened.workflow
    return WorkflowObject(plan.name, "workflow", plan.description, dict(plan.input), [step.name for step in plan.steps])


def _looked_up(app: Site, name: str, run_id: str) -> RunObject:
    found = app.kept(Workflows).runs.get(name, run_id)
    return _shown(found, app.kept(Workflows).runs.steps(run_id))


def _shown(run: Run, entries: list[Entry], *, stored: bool = True) -> RunObject:
    steps = [StepObject(each.path, each.kind, dict(each.outcome.value), each.tries, each.ms) for each in entries]
    return RunObject(
        id=run.id,
        workflow=run.workflow,
        status=run.status,
        created_at=run.created_at,
        ended_at=run.ended_at,
        input=dict(run.input),
        output=run.output,
        error=run.error,
        waiting_for=run.waiting,
        steps=steps,
        metadata=dict(run.metadata),
        stored=stored,
    )


def _told(event: Event) -> RunEvent:
    if isinstance(event, Delta):
        return RunEvent(type="output_text.delta", delta=event.text)
    if isinstance(event, StepBegun):
        return RunEvent(type="step.started", step=event.path, attempt=event.attempt)
    return RunEvent(type="step.completed", step=event.path, output=dict(event.value))


def _unkept(opened: Opened, run: Run, context: Context) -> Iterator[RunEvent]:
    """A run that ends with its request; ApiError 409 where it would have to ask a person."""
    memory = Memory()
    events = opened.course(run.input, memory).run(context)
    over = run
    while True:
        try:
            yield _told(next(events))
        except StopIteration as end:
            over = replace(run, status="completed", output=end.value)
            break
        except Stopped as stopped:
            over = replace(run, status="failed", error=Fault(stopped.code, stopped.message, stopped.path))
            break
        except Waiting as waiting:
            raise asks(run.workflow, waiting) from waiting
    over = replace(over, ended_at=int(time.time()))
    yield RunEvent(type=f"run.{over.status}", run=_shown(over, memory.entries, stored=False))


def _kept(app: Site, run: Run, context: Context) -> Iterator[RunEvent]:
    """A run that is kept, worked at here while the request lasts; what is longer than that goes on in the background."""
    workflows = app.kept(Workflows)
    taken = workflows.runs.take(run.id) if workflows.worker.mine() else None
    if taken is not None:
        for event in workflows.worker.work(taken, context):
            yield _told(event)
    else:
        _wait(app, run, context)
    shown = _looked_up(app, run.workflow, run.id)
    yield RunEvent(type=f"run.{shown.status}", run=shown)


def _wait(app: Site, run: Run, context: Context) -> None:
    """Another process works at the runs: look until this one is over, or the request is."""
    while app.kept(Workflows).runs.get(run.workflow, run.id).status not in (*OVER, "waiting"):
        if time.monotonic() > context.deadline - 2 * _LOOK_SECONDS:
            return
        if context.cancel.wait(_LOOK_SECONDS):
            context.check()
