"""From the events of a run to the items of a response and the events of its stream, in OpenAI's order; it keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ports import Annotation, Delta, ToolCall, Usage
from lsbuild_runtime.responses.answer import (
    IncompleteDetails,
    ResponseObject,
    StreamEvent,
    error_of,
    logprobs_of,
    usage_of,
)
from lsbuild_runtime.responses.items import (
    FileSearchCall,
    FileSearchResult,
    FunctionCall,
    Item,
    ListedTool,
    McpApprovalRequest,
    McpCall,
    McpListTools,
    Message,
    OutputRefusal,
    OutputText,
    Part,
    Reasoning,
    ReasoningText,
    SummaryText,
    WebSearchCall,
    new_id,
    shown,
)
from lsbuild_runtime.runs import ApprovalAsked, Bound, CallBegun, CallEnded, Ended, Event, Reason, StepDone
from lsbuild_runtime.tools import ToolInfo

SEARCH, WEB = "file_search", "web_search"
UNKNOWN = "unknown"
"""The ``server_label`` of a call of a tool that there is not."""
Events = Iterator[StreamEvent]

_STOPPED: Mapping[Reason, str] = {
    "length": "max_output_tokens",
    "tokens": "max_output_tokens",
    "content_filter": "content_filter",
    "steps": "max_messages",
    "wall": "max_messages",
}
"""OpenAI's word for each way to be incomplete."""
_TEXT_OF = {True: "reasoning_summary_text", False: "reasoning_text"}
_PART_OF = {True: "reasoning_summary_part", False: "content_part"}
"""What the events of reasoning are called: of a summary, and of what it is."""


class Listed(Struct, frozen=True):
    """What a server offers, told before the run; ``error`` says why it could not be asked."""

    label: str
    tools: Sequence[ToolInfo] = ()
    error: str = ""


class Shape(Struct, frozen=True):
    """How a client wants to see what happens."""

    include: frozenset[str] = frozenset()
    logprobs: bool = False
    summary: bool = False
    """Reasoning comes as a summary, else as what it is."""
    requests: Mapping[str, str] = {}
    """The approval request of a call that a person allowed, by the call's id."""


class Writer:
    """One response while it grows. Events must be encoded before the next one is asked for: their items grow on.

    ``output`` holds items with everything in them; what a client sees of them is decided when a response is shown.
    """

    def __init__(self, response: ResponseObject, shape: Shape, sequence: int = 0) -> None:
        self.response = response
        self.output: list[Item] = list(response.output)
        self.sequence = sequence
        self.base = self.usage = Usage()
        """Tokens of earlier parts of a run that was cut, and of all so far."""
        self._shape = shape
        self._message: Message | None = None
        self._parts: list[Part] = []
        self._reasoning: Reasoning | None = None
        self._thought: ReasoningText | SummaryText = ReasoningText("")
        self._calls: dict[str, Item] = {}
        self._refused = False
        self._step_over = False

    def snapshot(self, kind: str) -> StreamEvent:
        """An event with the whole response as it is now."""
        self.response.output = [shown(item, self._shape.include) for item in self.output]
        return self._event(kind, response=self.response)

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
        yield from self._close()
        if isinstance(event, CallBegun):
            yield from self._begun(event.call, event.tool)
        elif isinstance(event, CallEnded):
            yield from self._call_ended(event)
        elif isinstance(event, ApprovalAsked):
            asked = McpApprovalRequest(
                id=new_id("mcpr"),
                server_label=event.tool.group,
                name=event.tool.info.name,
                arguments=event.call.arguments,
            )
            yield from self._whole(asked)
        else:
            yield from self._listed(event)

    def finished(self) -> list[Item]:
        """The items after a step, none of them open."""
        grown = {id(item) for item in (self._message, self._reasoning)}
        return [
            msgspec.structs.replace(item, status="completed") if id(item) in grown else item for item in self.output
        ]

    def fail(self, error: ApiError) -> Events:
        """Close what is open; the response has failed."""
        yield from self._close("incomplete")
        self._give_up_calls()
        self.response.status = "failed"
        self.response.error = error_of(error)

    def cancelled(self) -> None:
        """The response was given up: what is open stays as it is."""
        self._give_up_calls()
        for item in (self._message, self._reasoning):
            if item is not None:
                item.status = "incomplete"
        self.response.status = "cancelled"

    # Text

    def _delta(self, delta: Delta) -> Events:
        if self._step_over:  # what the model says now is another message
            yield from self._close()
        if delta.reasoning:
            yield from self._think(delta.reasoning)
        if delta.text or delta.annotations or (delta.logprobs and self._shape.logprobs):
            yield from self._say(delta)
        if delta.refusal:
            yield from self._refuse(delta.refusal)
        for call in delta.tool_calls:
            yield from self._close()
            yield from self._function(call)

    def _say(self, delta: Delta) -> Events:
        message, part = yield from self._part(OutputText)
        place = {**self._place(message), "content_index": len(self._parts) - 1}
        if delta.text or delta.logprobs:
            part.text += delta.text
            tokens = logprobs_of(delta.logprobs) if self._shape.logprobs else []
            part.logprobs.extend(tokens)
            yield self._event("response.output_text.delta", **place, delta=delta.text, logprobs=tokens)
        for found in delta.annotations:
            annotation = _citation(found)
            part.annotations.append(annotation)
            index = len(part.annotations) - 1
            yield self._event(
                "response.output_text.annotation.added", **place, annotation_index=index, annotation=annotation
            )

    def _refuse(self, text: str) -> Events:
        self._refused = True
        message, part = yield from self._part(OutputRefusal)
        part.refusal += text
        place = {**self._place(message), "content_index": len(self._parts) - 1}
        yield self._event("response.refusal.delta", **place, delta=text)

    def _part(self, kind: type[Any]) -> Any:
        """The message that grows and its last part, both opened if need be; a generator that returns them."""
        if self._message is None:
            yield from self._close()
            self._parts = []
            self._message = Message(id=new_id("msg"), role="assistant", content=self._parts, status="in_progress")
            yield self._added(self._message)
        message, parts = self._message, self._parts
        if not parts or not isinstance(parts[-1], kind):
            yield from self._part_done()
            parts.append(OutputText("", [], []) if kind is OutputText else OutputRefusal(""))
            place = {**self._place(message), "content_index": len(parts) - 1}
            yield self._event("response.content_part.added", **place, part=parts[-1])
        return message, parts[-1]

    def _part_done(self) -> Events:
        if self._message is None or not self._parts:
            return
        part = self._parts[-1]
        place = {**self._place(self._message), "content_index": len(self._parts) - 1}
        if isinstance(part, OutputText):
            yield self._event("response.output_text.done", **place, text=part.text, logprobs=part.logprobs)
        elif isinstance(part, OutputRefusal):
            yield self._event("response.refusal.done", **place, refusal=part.refusal)
        yield self._event("response.content_part.done", **place, part=part)

    def _think(self, text: str) -> Events:
        if self._reasoning is None:
            yield from self._close()
            self._reasoning = Reasoning(id=new_id("rs"), status="in_progress")
            yield self._added(self._reasoning)
            self._thought = SummaryText("") if self._shape.summary else ReasoningText("")
            yield self._thinking(_PART_OF[self._shape.summary], "added", self._reasoning, part=self._thought)
            self._reasoning.summary = [self._thought] if isinstance(self._thought, SummaryText) else []
            self._reasoning.content = [self._thought] if isinstance(self._thought, ReasoningText) else None
        self._thought.text += text
        yield self._thinking(_TEXT_OF[self._shape.summary], "delta", self._reasoning, delta=text)

    def _thinking(self, kind: str, what: str, item: Reasoning, **fields: Any) -> StreamEvent:
        index = {"summary_index" if self._shape.summary else "content_index": 0}
        return self._event(f"response.{kind}.{what}", **self._place(item), **index, **fields)

    def _close(self, status: Any = "completed") -> Events:
        """End the message or the reasoning that grows."""
        self._step_over = False
        if self._message is not None:
            yield from self._part_done()
            self._message.status = status
            yield self._done(self._message)
            self._message = None
        if self._reasoning is not None:
            yield self._thinking(_TEXT_OF[self._shape.summary], "done", self._reasoning, text=self._thought.text)
            yield self._thinking(_PART_OF[self._shape.summary], "done", self._reasoning, part=self._thought)
            self._reasoning.status = status
            yield self._done(self._reasoning)
            self._reasoning = None

    # Calls

    def _function(self, call: ToolCall) -> Events:
        item = FunctionCall(id=new_id("fc"), call_id=call.id, name=call.name, arguments="", status="in_progress")
        yield self._added(item)
        place = self._place(item)
        item.arguments = call.arguments
        yield self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
        yield self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
        item.status = "completed"
        yield self._done(item)

    def _begun(self, call: ToolCall, tool: Bound) -> Events:
        if tool.group == SEARCH:
            yield from self._searching(
                FileSearchCall(id=new_id("fs"), queries=[_query(call)], status="in_progress"), call
            )
        elif tool.group == WEB:
            action = {"type": "search", "query": _query(call), "queries": [_query(call)]}
            yield from self._searching(WebSearchCall(id=new_id("ws"), action=action, status="in_progress"), call)
        else:
            yield from self._calling(call, tool.group, tool.info.name)

    def _searching(self, item: FileSearchCall | WebSearchCall, call: ToolCall) -> Events:
        self._calls[call.id] = item
        yield self._added(item)
        kind = SEARCH if isinstance(item, FileSearchCall) else WEB
        yield self._event(f"response.{kind}_call.in_progress", **self._place(item))
        item.status = "searching"
        yield self._event(f"response.{kind}_call.searching", **self._place(item))

    def _calling(self, call: ToolCall, label: str, name: str) -> Events:
        request = self._shape.requests.get(call.id)
        item = McpCall(
            id=new_id("mcp"),
            server_label=label,
            name=name,
            arguments="",
            status="in_progress",
            approval_request_id=request,
        )
        self._calls[call.id] = item
        yield self._added(item)
        place = self._place(item)
        yield self._event("response.mcp_call.in_progress", **place)
        item.arguments = call.arguments
        yield self._event("response.mcp_call_arguments.delta", **place, delta=call.arguments)
        yield self._event("response.mcp_call_arguments.done", **place, arguments=call.arguments)

    def _call_ended(self, event: CallEnded) -> Events:
        if event.call.id not in self._calls:  # it was not made, which is told all the same
            if event.tool is None:
                yield from self._calling(event.call, UNKNOWN, event.call.name)
            else:
                yield from self._begun(event.call, event.tool)
        item = self._calls.pop(event.call.id)
        failed = event.outcome != "ok" or event.result.failed
        text = event.result.text
        if isinstance(item, McpCall):
            item.status = "failed" if failed else "completed"
            item.output = None if failed else text
            item.error = _call_error(text) if failed else None
            yield self._event(f"response.mcp_call.{item.status}", **self._place(item))
        elif isinstance(item, FileSearchCall):
            item.status = "failed" if failed else "completed"
            item.results = _results(event)
            yield self._event("response.file_search_call.completed", **self._place(item))
        elif isinstance(item, WebSearchCall):
            item.status, item.results = "failed" if failed else "completed", text
            yield self._event("response.web_search_call.completed", **self._place(item))
        yield self._done(item)

    def _listed(self, event: Listed) -> Events:
        item = McpListTools(id=new_id("mcpl"), server_label=event.label, tools=[])
        yield self._added(item)
        yield self._event("response.mcp_list_tools.in_progress", **self._place(item))
        item.tools = [
            ListedTool(name=info.name, description=info.description, input_schema=dict(info.parameters))
            for info in event.tools
        ]
        item.error = event.error or None
        kind = "failed" if event.error else "completed"
        yield self._event(f"response.mcp_list_tools.{kind}", **self._place(item))
        yield self._done(item)

    def _give_up_calls(self) -> None:
        for item in self._calls.values():
            if isinstance(item, McpCall | FileSearchCall | WebSearchCall):
                item.status = "incomplete"
        self._calls.clear()

    # The end

    def _ended(self, event: Ended) -> Events:
        self.usage = self.base + event.usage
        self.response.usage = usage_of(self.usage)
        reason = _STOPPED.get(event.reason)
        if reason is None or (event.reason == "content_filter" and self._refused):
            yield from self._close()
            self.response.status = "completed"  # a refusal is an answer
            return
        yield from self._close("incomplete")
        limit = event.reason if event.reason in ("steps", "tokens", "wall") else None
        self.response.status = "incomplete"
        self.response.incomplete_details = IncompleteDetails(reason, limit)

    # Events

    def _event(self, kind: str, **fields: Any) -> StreamEvent:
        event = StreamEvent(type=kind, sequence_number=self.sequence, **fields)
        self.sequence += 1
        return event

    def _added(self, item: Item) -> StreamEvent:
        self.output.append(item)
        return self._event("response.output_item.added", output_index=len(self.output) - 1, item=item)

    def _done(self, item: Item) -> StreamEvent:
        seen = shown(item, self._shape.include)
        return self._event("response.output_item.done", output_index=self._index(item), item=seen)

    def _whole(self, item: Item) -> Events:
        yield self._added(item)
        yield self._done(item)

    def _place(self, item: Item) -> dict[str, Any]:
        return {"output_index": self._index(item), "item_id": item.id or UNSET}

    def _index(self, item: Item) -> int:
        return next(place for place in range(len(self.output) - 1, -1, -1) if self.output[place] is item)


def _query(call: ToolCall) -> str:
    """What is searched for; the arguments as they are when they are no object with a query."""
    try:
        arguments = msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return call.arguments
    query = arguments.get("query") if isinstance(arguments, dict) else None
    return query if isinstance(query, str) else call.arguments


def _call_error(text: str) -> dict[str, Any]:
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}], "message": text}


def _results(event: CallEnded) -> list[FileSearchResult]:
    return [
        FileSearchResult(
            file_id=found.hit.file_id,
            filename=found.hit.filename,
            score=found.hit.score,
            text=found.hit.text,
            attributes=dict(found.hit.attributes),
            vector_store_id=found.store,
        )
        for found in event.result.found
    ]


def _citation(found: Annotation) -> dict[str, Any]:
    """OpenAI's four fields, then where in the file."""
    return {
        "type": "file_citation",
        "file_id": found.file_id,
        "filename": found.filename,
        "index": found.index,
        "vector_store_id": found.store,
        "start": found.start,
        "end": found.end,
        "line_start": found.line_start,
        "line_end": found.line_end,
        "heading": found.heading,
        "quote": found.quote,
    }
