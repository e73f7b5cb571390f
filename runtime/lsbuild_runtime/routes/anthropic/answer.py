"""What Anthropic's clients read: the types of messages, blocks and events; no behaviour."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class CharLocation(Struct, tag_field="type", tag="char_location"):
    """A citation. ``document_index`` counts the cited documents in the order they are cited; offsets are the document's."""

    cited_text: str
    document_index: int
    document_title: str
    start_char_index: int
    end_char_index: int
    file_id: str


class AnswerText(Struct, tag_field="type", tag="text"):
    """What the model says."""

    text: str
    citations: list[CharLocation] | None = None


class AnswerThinking(Struct, tag_field="type", tag="thinking"):
    """What the model thinks; it is not signed."""

    thinking: str
    signature: str = ""


class AnswerToolUse(Struct, tag_field="type", tag="tool_use"):
    """A call that the model makes."""

    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = AnswerText | AnswerThinking | AnswerToolUse


class StopDetails(Struct, tag_field="type", tag="refusal"):
    """Why an answer was refused."""

    explanation: str
    category: None = None


class UsageCounts(Struct):
    """Token counts. Those that were not computed again are counted apart, so that all inputs together are the prompt."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int = 0


class Message(Struct, kw_only=True):
    """The whole answer, or what a stream begins with."""

    id: str
    type: str = "message"
    role: str = "assistant"
    model: str
    content: list[AnswerBlock]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: UsageCounts


class TokenCount(Struct):
    """The answer of count_tokens."""

    input_tokens: int


class TextDelta(Struct, tag_field="type", tag="text_delta"):
    """More text."""

    text: str


class ThinkingDelta(Struct, tag_field="type", tag="thinking_delta"):
    """More thoughts."""

    thinking: str


class InputDelta(Struct, tag_field="type", tag="input_json_delta"):
    """The arguments of a call."""

    partial_json: str


class CitationsDelta(Struct, tag_field="type", tag="citations_delta"):
    """One more citation of the open text."""

    citation: CharLocation


class MessageStart(Struct, tag_field="type", tag="message_start"):
    """The first event."""

    message: Message


class BlockStart(Struct, tag_field="type", tag="content_block_start"):
    """A block begins."""

    index: int
    content_block: AnswerBlock


class BlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    """A block goes on."""

    index: int
    delta: TextDelta | ThinkingDelta | InputDelta | CitationsDelta


class BlockStop(Struct, tag_field="type", tag="content_block_stop"):
    """A block ends."""

    index: int


class StopDelta(Struct):
    """Why the answer ends."""

    stop_reason: str
    stop_sequence: str | None
    stop_details: StopDetails | UnsetType = UNSET


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    """The end, with the counts of all."""

    delta: StopDelta
    usage: UsageCounts


class MessageStop(Struct, tag_field="type", tag="message_stop"):
    """The last event."""


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
