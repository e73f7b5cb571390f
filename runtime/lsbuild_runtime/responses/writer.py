"""From the events of a run to the items of a response and the events of its stream, in OpenAI's order; it keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lsbuild_runtime.agents.runs import ApprovalAsked, CallBegun, CallEnded, Ended, Event, Reason, StepDone
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ports import Delta, Usage
from lsbuild_runtime.responses.answer import IncompleteDetails, ResponseObject, StreamEvent, error_of, usage_of
from lsbuild_runtime.responses.called import Called, Listed
from lsbuild_runtime.responses.items import Item
from lsbuild_runtime.responses.said import Said
from lsbuild_runtime.responses.sheet import Events, Shape, Sheet

_STOPPED: Mapping[Reason, str] = {
    "length": "max_output_tokens",
    "tokens": "max_output_tokens",
    "content_filter": "content_filter",
    "steps": "max_messages",
    "wall": "max_messages",
}
"""OpenAI's word for each way to be incomplete."""


class Writer:
    """One response while it grows; see ``Sheet`` for its events. ``spent`` are the tokens of earlier parts of its run."""

    def __init__(self, response: ResponseObject, shape: Shape, spent: Usage, first: int) -> None:
        self.response = response
        self.usage = spent
        """Tokens of all steps so far."""
        self._spent = spent
        self._sheet = Sheet(response, shape)
        self._sheet.sequence = first
        self._said = Said(self._sheet)
        self._called = Called(self._sheet)
        self._step_over = False

    @property
    def output(self) -> list[Item]:
        """All items so far, with everything in them."""
        return self._sheet.output

    @property
    def sequence(self) -> int:
        """The number of the next event."""
        return self._sheet.sequence

    def snapshot(self, kind: str) -> StreamEvent:
        """An event with the whole response as it is now."""
        return self._sheet.snapshot(kind)

    def take(self, event: Event | Listed) -> Events:
        """What an event of the run is on the wire."""
        if isinstance(event, Delta):
            yield from self._delta(event)
            return
        if isinstance(event, StepDone):
            self.usage = self.usage + event.usage
            self._step_over = True  # whether its message is complete, the end of the run may have to say
            return
        if isinstance(event, Ended):
            yield from self._ended(event)
            return
        yield from self._said.close()
        if isinstance(event, CallBegun):
            yield from self._called.begun(event.call, event.tool)
        elif isinstance(event, CallEnded):
            yield from self._called.ended(event)
        elif isinstance(event, ApprovalAsked):
            yield from self._called.asked(event)
        else:
            yield from self._called.listed(event)

    def finished(self) -> list[Item]:
        """The items after a step, none of them open."""
        grown = self._said.open
        return [msgspec.structs.replace(item, status="completed") if item is grown else item for item in self.output]

    def fail(self, error: ApiError) -> Events:
        """Close what is open; the response has failed."""
        yield from self._said.close("incomplete")
        self._called.give_up()
        self.response.status = "failed"
        self.response.error = error_of(error)

    def cancelled(self) -> None:
        """The response was given up: what is open stays as it is."""
        self._called.give_up()
        if (item := self._said.open) is not None:
            item.status = "incomplete"
        self.response.status = "cancelled"

    def _delta(self, delta: Delta) -> Events:
        if self._step_over:  # what the model says now is another message
            self._step_over = False
            yield from self._said.close()
        if delta.reasoning:
            yield from self._said.think(delta.reasoning)
        if delta.text or delta.annotations or (delta.logprobs and self._sheet.shape.logprobs):
            yield from self._said.say(delta)
        if delta.refusal:
            yield from self._said.refuse(delta.refusal)
        for call in delta.tool_calls:
            yield from self._said.close()
            yield from self._called.function(call)

    def _ended(self, event: Ended) -> Events:
        self.usage = self._spent + event.usage
        self.response.usage = usage_of(self.usage)
        reason = _STOPPED.get(event.reason)
        if reason is None or (event.reason == "content_filter" and self._said.refused):
            yield from self._said.close()
            self.response.status = "completed"  # a refusal is an answer
            return
        yield from self._said.close("incomplete")
        limit = event.reason if event.reason in ("steps", "tokens", "wall") else None
        self.response.status = "incomplete"
        self.response.incomplete_details = IncompleteDetails(reason, limit)
