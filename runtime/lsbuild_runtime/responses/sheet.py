"""The events and the items of one response, in order: what every writer of a part of it writes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET, Struct

from lsbuild_runtime.responses.answer import ResponseObject, StreamEvent
from lsbuild_runtime.responses.items import Item, shown

Events = Iterator[StreamEvent]


class Shape(Struct, frozen=True):
    """How a client wants to see what happens."""

    include: frozenset[str] = frozenset()
    logprobs: bool = False
    summary: bool = False
    """Reasoning comes as a summary, else as what it is."""
    requests: Mapping[str, str] = {}
    """The approval request of a call that a person allowed, by the call's id."""


class Sheet:
    """Events must be encoded before the next one is asked for: their items grow on.

    ``output`` holds items with everything in them; what a client sees of them is decided when they are shown.
    """

    def __init__(self, response: ResponseObject, shape: Shape) -> None:
        self.response = response
        self.shape = shape
        self.output: list[Item] = list(response.output)
        self.sequence = 0
        """The number of the next event."""

    def snapshot(self, kind: str) -> StreamEvent:
        """An event with the whole response as it is now."""
        self.response.output = [shown(item, self.shape.include) for item in self.output]
        return self.event(kind, response=self.response)

    def event(self, kind: str, **fields: Any) -> StreamEvent:
        """One event, with the next number."""
        event = StreamEvent(type=kind, sequence_number=self.sequence, **fields)
        self.sequence += 1
        return event

    def added(self, item: Item) -> StreamEvent:
        """A new item."""
        self.output.append(item)
        return self.event("response.output_item.added", output_index=len(self.output) - 1, item=item)

    def done(self, item: Item) -> StreamEvent:
        """An item that does not change any more."""
        seen = shown(item, self.shape.include)
        return self.event("response.output_item.done", output_index=self._index(item), item=seen)

    def place(self, item: Item) -> dict[str, Any]:
        """What events say of where they belong."""
        return {"output_index": self._index(item), "item_id": item.id or UNSET}

    def _index(self, item: Item) -> int:
        return next(place for place in range(len(self.output) - 1, -1, -1) if self.output[place] is item)
