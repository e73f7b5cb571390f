"""What a model says and thinks, as messages and reasoning that grow; one of them at a time."""

from __future__ import annotations

from typing import Any

from lsbuild_runtime.ports import Annotation, Delta
from lsbuild_runtime.responses.answer import StreamEvent, logprobs_of
from lsbuild_runtime.responses.items import (
    Message,
    OutputRefusal,
    OutputText,
    Part,
    Reasoning,
    ReasoningText,
    SummaryText,
    item_id,
)
from lsbuild_runtime.responses.sheet import Events, Sheet

_TEXT_OF = {True: "reasoning_summary_text", False: "reasoning_text"}
_PART_OF = {True: "reasoning_summary_part", False: "content_part"}
"""What the events of reasoning are called: of a summary, and of what it is."""


class Said:
    """Writes on ``sheet``; ``refused`` says whether the model, or a shield in its place, has refused something."""

    def __init__(self, sheet: Sheet) -> None:
        self.refused = False
        self._sheet = sheet
        self._message: Message | None = None
        self._parts: list[Part] = []
        self._reasoning: Reasoning | None = None
        self._thought: ReasoningText | SummaryText = ReasoningText("")

    @property
    def open(self) -> Message | Reasoning | None:
        """The item that grows."""
        return self._message or self._reasoning

    def say(self, delta: Delta) -> Events:
        """Text, with what it cites."""
        message, part = yield from self._part(OutputText)
        place = {**self._sheet.place(message), "content_index": len(self._parts) - 1}
        if delta.text or delta.logprobs:
            part.text += delta.text
            tokens = logprobs_of(delta.logprobs) if self._sheet.shape.logprobs else []
            part.logprobs.extend(tokens)
            yield self._sheet.event("response.output_text.delta", **place, delta=delta.text, logprobs=tokens)
        for found in delta.annotations:
            annotation = _citation(found)
            part.annotations.append(annotation)
            index = len(part.annotations) - 1
            yield self._sheet.event(
                "response.output_text.annotation.added", **place, annotation_index=index, annotation=annotation
            )

    def refuse(self, text: str) -> Events:
        """A piece of a refusal."""
        self.refused = True
        message, part = yield from self._part(OutputRefusal)
        part.refusal += text
        place = {**self._sheet.place(message), "content_index": len(self._parts) - 1}
        yield self._sheet.event("response.refusal.delta", **place, delta=text)

    def _part(self, kind: type[Any]) -> Any:
        """The message that grows and its last part, both opened if need be; a generator that returns them."""
        if self._message is None:
            yield from self.close()
            self._parts = []
            self._message = Message(id=item_id("msg"), role="assistant", content=self._parts, status="in_progress")
            yield self._sheet.added(self._message)
        message, parts = self._message, self._parts
        if not parts or not isinstance(parts[-1], kind):
            yield from self._part_done()
            parts.append(OutputText("", [], []) if kind is OutputText else OutputRefusal(""))
            place = {**self._sheet.place(message), "content_index": len(parts) - 1}
            yield self._sheet.event("response.content_part.added", **place, part=parts[-1])
        return message, parts[-1]

    def _part_done(self) -> Events:
        if self._message is None or not self._parts:
            return
        part = self._parts[-1]
        place = {**self._sheet.place(self._message), "content_index": len(self._parts) - 1}
        if isinstance(part, OutputText):
            yield self._sheet.event("response.output_text.done", **place, text=part.text, logprobs=part.logprobs)
        elif isinstance(part, OutputRefusal):
            yield self._sheet.event("response.refusal.done", **place, refusal=part.refusal)
        yield self._sheet.event("response.content_part.done", **place, part=part)

    def think(self, text: str) -> Events:
        """A piece of what the model thinks."""
        if self._reasoning is None:
            yield from self.close()
            self._reasoning = Reasoning(id=item_id("rs"), status="in_progress")
            yield self._sheet.added(self._reasoning)
            self._thought = SummaryText("") if self._sheet.shape.summary else ReasoningText("")
            yield self._thinking(_PART_OF[self._sheet.shape.summary], "added", self._reasoning, part=self._thought)
            self._reasoning.summary = [self._thought] if isinstance(self._thought, SummaryText) else []
            self._reasoning.content = [self._thought] if isinstance(self._thought, ReasoningText) else None
        self._thought.text += text
        yield self._thinking(_TEXT_OF[self._sheet.shape.summary], "delta", self._reasoning, delta=text)

    def _thinking(self, kind: str, what: str, item: Reasoning, **fields: Any) -> StreamEvent:
        index = {"summary_index" if self._sheet.shape.summary else "content_index": 0}
        return self._sheet.event(f"response.{kind}.{what}", **self._sheet.place(item), **index, **fields)

    def close(self, status: Any = "completed") -> Events:
        """End the message or the reasoning that grows, if there is one."""
        if self._message is not None:
            yield from self._part_done()
            self._message.status = status
            yield self._sheet.done(self._message)
            self._message = None
        if self._reasoning is not None:
            yield self._thinking(_TEXT_OF[self._sheet.shape.summary], "done", self._reasoning, text=self._thought.text)
            yield self._thinking(_PART_OF[self._sheet.shape.summary], "done", self._reasoning, part=self._thought)
            self._reasoning.status = status
            yield self._sheet.done(self._reasoning)
            self._reasoning = None


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
