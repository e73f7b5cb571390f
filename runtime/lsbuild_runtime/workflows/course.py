"""The course of a run: which step comes next, how often it is tried, and what is kept of it; it opens no file.

A run that goes on later takes the same course again from its start, with what its journal remembers instead of the steps
themselves: branches and maps are decided by kept outputs alone, so they are decided as before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.http import ApiError, Cancelled, Context, Silence
from lsbuild_runtime.parallel import in_order
from lsbuild_runtime.ports import Delta, Host, Usage
from lsbuild_runtime.workflows.doing import Failed, Work, do, reason, tool_of
from lsbuild_runtime.workflows.journal import Entry, Journal, Outcome
from lsbuild_runtime.workflows.plan import Case, Step, Workflow
from lsbuild_runtime.workflows.values import Missing, Scope, fill, filled_text, holds, text_of

MOST_ENTRIES = 1000
"""Entries of the list of a map."""
LONGEST_PAUSE = 60.0


class StepBegun(Struct, frozen=True):
    """A step is about to be done; ``attempt`` counts from 1."""

    path: str
    kind: str
    attempt: int = 1


class StepEnded(Struct, frozen=True):
    """A step is over and kept. ``failed`` says why it gave nothing, where the run goes on all the same."""

    path: str
    kind: str
    value: Mapping[str, Any]
    failed: str = ""


Event = StepBegun | StepEnded | Delta
"""A Delta is a piece of the last step's text, passed on as it comes."""


class Waiting(Exception):
    """The run cannot go on before a person has answered."""

    def __init__(self, path: str, question: str) -> None:
        super().__init__(path)
        self.path = path
        self.question = question


class Stopped(Exception):
    """The run has failed for good at the step ``path``."""

    def __init__(self, path: str, why: Failed) -> None:
        super().__init__(f"{path}: {why.message}")
        self.path = path
        self.code = why.code
        self.message = why.message


class Course:
    """One run of ``workflow``. ``journal`` knows what was done before, and is told of every step that ends."""

    def __init__(self, workflow: Workflow, given: Mapping[str, Any], host: Host, journal: Journal) -> None:
        self._workflow = workflow
        self._given = given
        self._host = host
        self._journal = journal
        self.usage = Usage()
        self._counting = threading.Lock()

    def run(self, context: Context) -> Generator[Event, None, Any]:
        """All steps that are left; returns the output. Raises Stopped, Waiting and Cancelled.

        Deltas come only of a last step that is the output; their text is then the output's.
        """
        limited = replace(context, deadline=min(context.deadline, time.monotonic() + self._workflow.wall))
        scope: dict[str, Any] = {"input": self._given, "steps": {}}
        names = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": self._workflow.name}
        with context.watch.span(f"invoke_workflow {self._workflow.name}", **names):
            last = yield from self._steps(self._workflow.steps, "", scope, limited, live=self._workflow.output is None)
            if self._workflow.output is None:
                return last.value.get("text", "")
            try:
                return fill(self._workflow.output, scope)
            except Missing as missing:
                raise Stopped("output", Failed(str(missing))) from missing

    def _steps(
        self, steps: tuple[Step, ...], above: str, scope: dict[str, Any], context: Context, *, live: bool
    ) -> Generator[Event, None, Outcome]:
        """The steps of one list, in their order; ``scope["steps"]`` learns what they give. Returns the last one's outcome,
        tainted when any was."""
        outcome = Outcome({})
        for step in steps:
            context.check()
            inside = replace(context, tainted=context.tainted or outcome.tainted)
            path = f"{above}{step.name}"
            shown = live and step is steps[-1]
            found = self._journal.outcome(path)
            if found is None:
                found = yield from self._step(step, path, scope, inside, live=shown)
            scope["steps"][step.name] = found.value
            outcome = Outcome(found.value, outcome.tainted or found.tainted)
        return outcome

    def _step(
        self, step: Step, path: str, scope: Scope, context: Context, *, live: bool
    ) -> Generator[Event, None, Outcome]:
        """A step that was not done yet: done, and kept."""
        begun = time.monotonic()
        tries, failed = 1, ""
        with context.watch.span(f"step {path}", **{"lsbuild.step.kind": step.kind}) as span:
            try:
                if step.kind in ("branch", "map", "approval"):  # of the others each try begins
                    yield StepBegun(path, step.kind)
                match step.kind:
                    case "branch":
                        outcome = yield from self._branch(step, path, scope, context, live=live)
                    case "map":
                        outcome = yield from self._map(step, path, scope, context)
                    case "approval":
                        outcome = self._approval(step, path, scope)
                    case _:
                        outcome, tries = yield from self._tried(step, path, scope, context, live=live)
            except (Failed, Missing) as error:
                why = reason(error)
                span.set(**{"lsbuild.step.failed": why.code})
                if step.on_error == "fail":
                    raise Stopped(path, why) from error
                failed, tries = why.message, step.retries.count + 1
                outcome = Outcome({"text": why.message, "failed": True}, tainted=True)
        value = {"failed": False, **outcome.value}
        outcome = Outcome(value, outcome.tainted)
        self._journal.put(Entry(path, step.kind, outcome, tries, round((time.monotonic() - begun) * 1000, 1)))
        yield StepEnded(path, step.kind, value, failed)
        return outcome

    def _tried(
        self, step: Step, path: str, scope: Scope, context: Context, *, live: bool
    ) -> Generator[Event, None, tuple[Outcome, int]]:
        """The step's outcome and the number of tries; Failed when none is left, or another would not help."""
        if step.kind == "tool":
            self._allowed(step, path, scope, context)
        for attempt in range(1, step.retries.count + 2):
            yield StepBegun(path, step.kind, attempt)
            try:
                outcome = yield from self._once(step, scope, context, live=live and not step.retries.count)
                return outcome, attempt
            except (Failed, ApiError, Missing) as error:
                context.check()  # what runs out of the run's own time is not the step's failure
                why = _reason(error, step)
                if not why.again or attempt > step.retries.count:
                    raise why from error
            if context.cancel.wait(min(step.retries.backoff * 2 ** (attempt - 1), LONGEST_PAUSE)):
                raise Cancelled
        raise AssertionError("the last try returns or raises")

    def _once(self, step: Step, scope: Scope, context: Context, *, live: bool) -> Generator[Event, None, Outcome]:
        end = context.deadline if step.timeout is None else min(context.deadline, time.monotonic() + step.timeout)
        work: Work = do(step, scope, self._host, replace(context, deadline=end))
        while True:
            try:
                delta = next(work)
            except StopIteration as over:
                outcome: Outcome = over.value
                return outcome
            if delta.usage is not None:
                self._count(delta.usage)
            if live and (delta.text or delta.reasoning):
                yield Delta(text=delta.text, reasoning=delta.reasoning)

    def _count(self, usage: Usage) -> None:
        with self._counting:
            one = self.usage
            self.usage = Usage(one.prompt + usage.prompt, one.completion + usage.completion, one.cached + usage.cached)

    def _branch(
        self, step: Step, path: str, scope: Scope, context: Context, *, live: bool
    ) -> Generator[Event, None, Outcome]:
        place, case = next(
            ((n, each) for n, each in enumerate(step.cases) if holds(each.when, scope)), (None, Case(()))
        )
        inner = {**scope, "steps": dict(scope["steps"])}
        last = yield from self._steps(case.steps, f"{path}.", inner, context, live=live)
        return Outcome({"text": "", **last.value, "case": place}, last.tainted)

    def _map(self, step: Step, path: str, scope: Scope, context: Context) -> Generator[Event, None, Outcome]:
        """Every entry side by side; the events of an entry come when it is over, in the order of the list."""
        entries = fill(step.use, scope)
        if not isinstance(entries, list | tuple):
            raise Failed(f"a map goes over a list, and {step.use} is none")
        if len(entries) > MOST_ENTRIES:
            raise Failed(f"{step.use} has {len(entries)} entries; a map takes at most {MOST_ENTRIES}")
        alone = replace(context, watch=Silence())  # a Watch is one thread's

        def work(place: int, entry: Any) -> Callable[[], tuple[list[Event], Outcome]]:
            inner = {**scope, "steps": dict(scope["steps"]), "item": entry, "index": place}
            return lambda: _whole(self._steps(step.steps, f"{path}[{place}].", inner, alone, live=False))

        works = [work(place, entry) for place, entry in enumerate(entries)]
        outcomes = []
        for events, outcome in in_order(works, step.concurrency, context):
            yield from events
            outcomes.append(outcome)
        items = [outcome.value for outcome in outcomes]
        text = "\n\n".join(str(item.get("text", "")) for item in items)
        tainted = any(outcome.tainted for outcome in outcomes)
        return Outcome({"text": text, "items": items, "count": len(items)}, tainted)

    def _approval(self, step: Step, path: str, scope: Scope) -> Outcome:
        answer = self._journal.answer(path)
        question = filled_text(step.use, scope)
        if answer is None:
            raise Waiting(path, question)
        if not answer.approved:
            raise Failed(f"it was refused{f': {answer.reason}' if answer.reason else ''}", code="refused")
        return Outcome({"text": question, "approved": True, "reason": answer.reason})

    def _allowed(self, step: Step, path: str, scope: Scope, context: Context) -> None:
        """A tool whose calls need a person's consent gets it as an approval does."""
        info = tool_of(step, self._host, context)[1]
        if info.approval:
            self._approval(replace(step, use=f"Call {step.use}? {text_of(fill(step.arguments, scope))}"), path, scope)


def _reason(error: Exception, step: Step) -> Failed:
    why = reason(error)
    if why.code == "deadline_exceeded" and step.timeout is not None:
        return Failed(f"it took longer than {step.timeout:g} s", code=why.code, again=True)
    return why


def _whole(steps: Generator[Event, None, Outcome]) -> tuple[list[Event], Outcome]:
    """All events of a list of steps, and what it gives."""
    events: list[Event] = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as over:
            outcome: Outcome = over.value
            return events, outcome
