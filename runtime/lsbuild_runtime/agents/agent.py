"""The agent's loop: ask the model, have its calls decided, make those that are allowed, go on; it knows no HTTP or spec.

What a run may do is decided by `policy`, never by what a model says.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from lsbuild_runtime.agents.grounding import Passage, cited, numbered
from lsbuild_runtime.agents.policy import Decider, Decision, Ready
from lsbuild_runtime.agents.runs import ApprovalAsked, Bound, CallBegun, CallEnded, Ended, Event, Reason, StepDone, Task
from lsbuild_runtime.http import ApiError, Context, Silence, Span
from lsbuild_runtime.parallel import in_order
from lsbuild_runtime.ports import Chat, Delta, FinishReason, Inference, ToolCall, Usage
from lsbuild_runtime.safety.looking import Look
from lsbuild_runtime.tools import Found
from lsbuild_runtime.tools.calling import called

SIDE_BY_SIDE = 4
"""Calls of one step that are under way at a time."""

Message = Mapping[str, Any]

_LAST = {
    "steps": "the run reached its limit of steps",
    "calls": "the run reached its limit of calls",
    "tokens": "the run reached its limit of tokens",
    "repeated": "the run repeated one call too often",
}


def run(
    task: Task, model: Inference, context: Context, look: Look | None = None, passages: Sequence[Passage] = ()
) -> Iterator[Event]:
    """Run ``task`` on ``model`` to its end or to a limit; closing the iterator stops the work.

    ``look`` are the shields that see arguments and results of calls. ``passages`` are shown with the question: what searches
    find is numbered after them, and ``[n]`` in an answer becomes an Annotation of the n-th. Raises what the model raises, and
    as Context.check does, but for the run's own time, which ends it with the reason ``wall``.
    """
    if task.tools and task.chat.sampling.n > 1:
        raise ApiError(400, "n: a run with tools gives one answer", param="n", code="unsupported_value")
    limited = replace(context, deadline=min(context.deadline, time.monotonic() + task.limits.wall))
    begun = _Run(task, model, limited, look or Look(()), passages)
    try:
        reason = yield from begun.steps()
    except ApiError as error:
        if error.code != "deadline_exceeded" or time.monotonic() > context.deadline:
            raise
        reason = "wall"
    yield Ended(reason, begun.for_client, begun.usage)


class _Answer(Struct):
    """What the model said in one step. ``last`` is the rule for which no calls were offered to it, "" when they were."""

    last: str
    parts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    finish: FinishReason = "stop"
    usage: Usage | None = None

    def heard(self, delta: Delta, clients: Collection[str]) -> Delta:
        """Take one more piece; returns what the run's own reader gets of it."""
        self.usage = delta.usage or self.usage
        if delta.index:  # more than one choice is there only where nothing can be called
            return replace(delta, usage=None)
        self.parts.append(delta.text)
        self.calls += delta.tool_calls
        self.finish = delta.finish or self.finish
        if self.finish == "content_filter":
            self.calls.clear()
        calls = tuple(call for call in delta.tool_calls if call.name in clients)
        return replace(delta, tool_calls=calls, finish=None, usage=None)

    def unanswered(self) -> Delta | None:
        """What is said for a model that was offered no calls, made some all the same, and gave no answer."""
        if not (self.last and self.calls) or "".join(self.parts).strip():
            return None
        self.parts.append(f"There is no answer: {_LAST[self.last]}, and the model went on calling tools.")
        return Delta(text=self.parts[-1])

    @property
    def cut(self) -> bool:
        """Whether the limit of tokens cut its last call short."""
        return self.finish == "length" and bool(self.calls) and not self.calls[-1].whole

    @property
    def message(self) -> Message:
        """What the conversation keeps of it."""
        text = "".join(self.parts)
        if not self.calls:
            return {"role": "assistant", "content": text}
        return {"role": "assistant", "content": text or None, "tool_calls": [_wire(call) for call in self.calls]}


class _Run:
    """What a run has said and read so far."""

    def __init__(self, task: Task, model: Inference, context: Context, look: Look, passages: Sequence[Passage]) -> None:
        self.usage = Usage()
        self.for_client: tuple[ToolCall, ...] = ()
        self._task = task
        self._model = model
        self._context = context
        self._passages = [*passages, *(_passage(found) for found in task.found)]
        self._messages = list(task.chat.messages)
        self._clients = {tool["function"]["name"] for tool in task.chat.tools}
        self._policy = Decider(task, look, context)

    def steps(self) -> Generator[Event, None, Reason]:
        """Everything but the last event; returns why the run ends."""
        if self._task.approvals:
            decided = [self._policy.decide(said.call, said) for said in self._task.approvals]
            yield from self._calls(decided)
        if self._task.opening:
            opened = _Answer("", calls=list(self._task.opening))
            yield from self._calls([self._policy.decide(call) for call in opened.calls], opened)
        while self._policy.tokens != 0:
            answer = yield from self._ask()
            if not answer.last:
                self.for_client = tuple(call for call in answer.calls if call.name in self._clients)
            decided = [self._policy.decide(call) for call in answer.calls if call not in self.for_client]
            yield from self._calls(decided, answer)
            if any(isinstance(each, ApprovalAsked) for each in decided):
                return "approval"
            if reason := self._over(answer):
                return reason
        return "tokens"

    def _over(self, answer: _Answer) -> Reason | None:
        """Why the run ends with this answer; None when the model has to be asked again."""
        if answer.finish == "content_filter":
            return "content_filter"
        if self.for_client and not answer.cut:
            return "tool_calls"
        if answer.calls and not answer.last and not answer.cut:
            return None
        if answer.finish == "length":
            return "tokens" if self._policy.tokens == 0 else "length"
        return "steps" if answer.last == "steps" else "stop"

    def _ask(self) -> Generator[Event, None, _Answer]:
        """One answer of the model, passed on as it comes; calls of the server's tools and ends are not passed on."""
        request = self._request()
        answer = _Answer(self._policy.closed)
        own = set() if answer.last else self._clients
        with self._context.watch.span("chat", **{"gen_ai.operation.name": "chat"}) as span:
            deltas = cited(self._model.chat(request, self._inside()), tuple(self._passages))
            try:
                for delta in deltas:
                    self._context.check()
                    if (passed := answer.heard(delta, own)) != Delta(delta.index):
                        yield passed
            finally:
                deltas.close()
            if said := answer.unanswered():
                yield said
            used = answer.usage or Usage(0, len(answer.parts))
            span.set(**{"gen_ai.usage.input_tokens": used.prompt, "gen_ai.usage.output_tokens": used.completion})
        self.usage = self.usage + used
        self._policy.generated(used)
        return answer

    def _request(self) -> Chat:
        chat = self._task.chat
        first = not self._policy.used.steps
        self._policy.step()
        choice = "none" if self._policy.closed else chat.tool_choice
        most = [tokens for tokens in (chat.sampling.max_tokens, self._policy.tokens) if tokens is not None]
        return replace(
            chat,
            messages=list(self._messages),
            tools=[*chat.tools, *(function(tool) for tool in self._task.tools)],
            tool_choice=choice if first or choice == "none" else "auto",  # what is forced is forced once
            sampling=replace(chat.sampling, max_tokens=min(most, default=None)),
        )

    def _calls(self, decided: Sequence[Decision], answer: _Answer | None = None) -> Iterator[Event]:
        """Make the calls that may be made and end the step; ``answer`` is what the model said with them."""
        for each in decided:
            if isinstance(each, CallEnded):
                with self._span(each.call) as span:
                    _tell(span, each)
            yield CallBegun(each.call, each.tool) if isinstance(each, Ready) else each
        results: list[CallEnded] = []
        for ended in self._results([each for each in decided if isinstance(each, Ready)]):
            results.append(ended)
            yield ended
        made = iter(results)
        over = [next(made) if isinstance(each, Ready) else each for each in decided]
        added = [] if answer is None else [answer.message]
        added += [_told(each) for each in over if isinstance(each, CallEnded)]
        self._messages += added
        usage = Usage() if answer is None or answer.usage is None else answer.usage
        yield StepDone(tuple(added), self._policy.used, usage, self._policy.tainted)

    def _results(self, ready: Sequence[Ready]) -> Iterator[CallEnded]:
        """What the calls gave, in their order; they run side by side where the request allows that."""
        for group in [ready] if self._task.chat.parallel_tool_calls else [[each] for each in ready]:
            # A Watch is one thread's: calls side by side have none, and their spans are opened here.
            context = self._inside() if len(group) == 1 else replace(self._inside(), watch=Silence())
            works = [partial(called, each.tool.runtime, each.tool.info.name, each.arguments, context) for each in group]
            with ExitStack() as stack:
                spans = [stack.enter_context(self._span(each.call)) for each in group]
                for each, span, (result, error) in zip(
                    group, spans, in_order(works, SIDE_BY_SIDE, context), strict=True
                ):
                    self._context.check()  # what a cancelled call says is no result
                    ended = self._numbered(self._policy.read(each, result))
                    _tell(span, ended, error)
                    yield ended

    def _inside(self) -> Context:
        """The context of what is done for this run: agents below it have read what it has read."""
        return replace(self._context, tainted=self._policy.tainted)

    def _numbered(self, ended: CallEnded) -> CallEnded:
        """Passages of a search get the numbers that the run cites them by."""
        if not ended.result.found:
            return ended
        passages = [_passage(found) for found in ended.result.found]
        text = numbered(passages, len(self._passages) + 1)
        self._passages += passages
        return replace(ended, result=replace(ended.result, text=text))

    def _span(self, call: ToolCall) -> Span:
        names = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.name[:64],
            "gen_ai.tool.call.id": call.id,
        }
        return self._context.watch.span(f"execute_tool {call.name[:64]}", **names)


def function(tool: Bound) -> dict[str, Any]:
    """The tool in the form in which models are told of functions."""
    told = {"name": tool.name, "description": tool.info.description, "parameters": tool.info.parameters}
    return {"type": "function", "function": told}


def _passage(found: Found) -> Passage:
    return Passage(found.store, found.hit, found.hit.text)


def _tell(span: Span, ended: CallEnded, error: BaseException | None = None) -> None:
    span.set(**{"lsbuild.tool.outcome": ended.outcome}, **({"lsbuild.tool.rule": ended.rule} if ended.rule else {}))
    if error is not None:
        span.set(error=error)


def _wire(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _told(ended: CallEnded) -> Message:
    return {"role": "tool", "tool_call_id": ended.call.id, "content": ended.result.text}
