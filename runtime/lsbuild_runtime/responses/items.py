"""The items of a response or conversation, as they come and go over the wire and as they are kept; it does nothing with them.

Input and output share their Structs: what a client got it may send back as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from lsbuild_runtime.ids import new_id

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
Label = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """A text part of what a user or an operator says."""

    text: str


class InputImage(Struct, tag_field="type", tag="input_image", forbid_unknown_fields=True, omit_defaults=True):
    """An image part, by http(s) or data URL; only for models that take images."""

    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class InputFile(Struct, tag_field="type", tag="input_file", forbid_unknown_fields=True, omit_defaults=True):
    """A file part. It is refused, with what to do instead: files are searched, not read as a whole."""

    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: str | None = None


class OutputText(Struct, tag_field="type", tag="output_text", forbid_unknown_fields=True):
    """A text part of an answer. Annotations and log probabilities that a client sends back are kept, not read."""

    text: str
    annotations: list[Any] = []
    logprobs: list[Any] | None = []


class OutputRefusal(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """What the model, or a shield in its place, refuses."""

    refusal: str


class ReasoningText(Struct, tag_field="type", tag="reasoning_text", forbid_unknown_fields=True):
    """A part of what a model thought."""

    text: str


class SummaryText(Struct, tag_field="type", tag="summary_text", forbid_unknown_fields=True):
    """A part of a summary of what a model thought."""

    text: str


Part = InputText | InputImage | InputFile | OutputText | OutputRefusal


class _Item(Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """What all items share; an item without an id gets one when it is kept."""

    id: Id | None = None


class Message(_Item, tag="message"):
    """What somebody says."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | UnsetType | None = UNSET


class FunctionCall(_Item, tag="function_call"):
    """A call of a function of the client."""

    call_id: Id
    name: Name
    arguments: str
    status: Status | None = None


class FunctionCallOutput(_Item, tag="function_call_output"):
    """What the client's function gave."""

    call_id: Id
    output: str | list[InputText | InputImage | InputFile]
    status: Status | None = None


class FileSearchResult(Struct, forbid_unknown_fields=True, kw_only=True):
    """A found passage. OpenAI's fields, then where it is from."""

    file_id: str | None = None
    filename: str | None = None
    score: float | None = None
    text: str | None = None
    attributes: dict[str, Any] | None = None
    vector_store_id: str | None = None


class FileSearchCall(_Item, tag="file_search_call"):
    """A search of stores. ``results`` are kept always, and shown when the request includes them."""

    queries: list[str]
    status: Literal["in_progress", "searching", "completed", "incomplete", "failed"] = "completed"
    results: list[FileSearchResult] | None = None


class WebSearchCall(_Item, tag="web_search_call"):
    """A search by the tool ``web_search`` of the spec. ``results`` is what the model read, kept and not shown."""

    action: dict[str, Any]
    status: Literal["in_progress", "searching", "completed", "incomplete", "failed"] = "completed"
    results: str | UnsetType | None = UNSET


class ListedTool(Struct, forbid_unknown_fields=True, kw_only=True):
    """A tool of a server."""

    name: str
    input_schema: Any = None
    description: str | None = None
    annotations: Any = None


class McpListTools(_Item, tag="mcp_list_tools"):
    """What a server offers; one whose list is in the conversation is not listed again."""

    server_label: Label
    tools: list[ListedTool]
    error: Any = None


class McpCall(_Item, tag="mcp_call"):
    """A call that the server ran: of an MCP server, or of another tool of the spec under its key as ``server_label``."""

    server_label: Label
    name: str
    arguments: str
    output: str | None = None
    error: Any = None
    status: Literal["in_progress", "completed", "incomplete", "calling", "failed"] | None = None
    approval_request_id: str | None = None


class McpApprovalRequest(_Item, tag="mcp_approval_request"):
    """A call that waits for a person."""

    server_label: Label
    name: str
    arguments: str


class McpApprovalResponse(_Item, tag="mcp_approval_response"):
    """What a person said of it."""

    approval_request_id: str
    approve: bool
    reason: str | None = None


class Reasoning(_Item, tag="reasoning"):
    """What a model thought before it answered: as it came in ``content``, or in ``summary`` where one was asked for."""

    summary: list[SummaryText] = []
    content: list[ReasoningText] | None = None
    encrypted_content: None = None
    status: Status | None = None


class Compaction(_Item, tag="compaction"):
    """An earlier part of a conversation in few words. They are encoded, not encrypted: who may send one may write one."""

    encrypted_content: str


class ItemReference(_Item, tag="item_reference"):
    """Stands for the kept item of that id."""


Item = (
    Message
    | FunctionCall
    | FunctionCallOutput
    | FileSearchCall
    | WebSearchCall
    | McpListTools
    | McpCall
    | McpApprovalRequest
    | McpApprovalResponse
    | Reasoning
    | Compaction
    | ItemReference
)

PREFIXES: Mapping[type, str] = {
    Message: "msg",
    FunctionCall: "fc",
    FunctionCallOutput: "fco",
    FileSearchCall: "fs",
    WebSearchCall: "ws",
    McpListTools: "mcpl",
    McpCall: "mcp",
    McpApprovalRequest: "mcpr",
    McpApprovalResponse: "mcpa",
    Reasoning: "rs",
    Compaction: "cmp",
}
_DECODER = msgspec.json.Decoder(list[Item])


def item_id(prefix: str) -> str:
    """A random id as OpenAI's: 192 bits after ``prefix_``."""
    return new_id(f"{prefix}_", 24)


def named(item: Item) -> Item:
    """The item, with an id when it had none."""
    if item.id is None:
        item.id = item_id(PREFIXES[type(item)])
    return item


def encoded(items: list[Item]) -> bytes:
    """Items as they are kept."""
    return msgspec.json.encode(items)


def decoded(data: bytes) -> list[Item]:
    """What ``encoded`` made."""
    return _DECODER.decode(data)


def shown(item: Item, include: frozenset[str]) -> Item:
    """The item as a client sees it that asked to ``include`` these things."""
    if isinstance(item, FileSearchCall) and "file_search_call.results" not in include:
        return msgspec.structs.replace(item, results=None)
    if isinstance(item, WebSearchCall):
        return msgspec.structs.replace(item, results=UNSET)
    if isinstance(item, Message) and (isinstance(item.content, str) or item.status is None):
        part = OutputText if item.role == "assistant" else InputText
        content = [part(item.content)] if isinstance(item.content, str) else item.content
        return msgspec.structs.replace(item, content=content, status=item.status or "completed")
    return item
