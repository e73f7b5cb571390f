"""What Anthropic's clients send: the types of /v1/messages and of its count; no behaviour."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lsbuild_runtime.routes.sampling import Text

ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]


class CacheControl(Struct, tag_field="type", tag="ephemeral", forbid_unknown_fields=True):
    """A hint where a prompt may be cached. Taken and not needed: what a prompt shares with the last one is kept anyway."""

    ttl: Literal["5m", "1h"] | None = None


class Block(Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """What all blocks may have."""

    cache_control: CacheControl | None = None


class TextBlock(Block, tag="text"):
    """A text. The citations of an earlier answer may be sent back; they are not read again."""

    text: str
    citations: list[Any] | None = None


class Base64Source(Struct, tag_field="type", tag="base64", forbid_unknown_fields=True):
    """An image in the request."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(Struct, tag_field="type", tag="url", forbid_unknown_fields=True):
    """An image somewhere else."""

    url: str


class ImageBlock(Block, tag="image"):
    """An image; only for models that take images."""

    source: Base64Source | UrlSource


class ThinkingBlock(Block, tag="thinking"):
    """What the model thought earlier. The signature is not looked at: ours are empty."""

    thinking: str
    signature: str = ""


class ToolUseBlock(Block, tag="tool_use"):
    """A call that the model made."""

    id: str
    name: str
    input: dict[str, Any]
    caller: Any = None


class ToolResultBlock(Block, tag="tool_result"):
    """The result of a call: texts only."""

    tool_use_id: str
    content: str | list[TextBlock] = ""
    is_error: bool = False


AnyBlock = TextBlock | ImageBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock


class MessageParam(Struct, forbid_unknown_fields=True):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[AnyBlock]


class ToolParam(Struct, forbid_unknown_fields=True):
    """A tool of the client; tools that Anthropic's own servers run are refused by their type."""

    name: ToolName
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    defer_loading: Literal[False] | None = None


class Choice(Struct, tag_field="type", forbid_unknown_fields=True):
    """How tools are chosen."""

    disable_parallel_tool_use: bool = False


class AutoChoice(Choice, tag="auto"):
    """The model decides."""


class AnyChoice(Choice, tag="any"):
    """Some tool has to be called."""


class ToolChoice(Choice, tag="tool", kw_only=True):
    """This tool has to be called."""

    name: str


class NoChoice(Struct, tag_field="type", tag="none", forbid_unknown_fields=True):
    """No tool may be called."""


class ThinkingOff(Struct, tag_field="type", tag="disabled", forbid_unknown_fields=True):
    """What a model thinks is not sent."""


class ThinkingAdaptive(Struct, tag_field="type", tag="adaptive", forbid_unknown_fields=True):
    """The model thinks as it likes, and what it thinks is sent. A budget (``enabled``) is refused: nobody could hold it."""

    display: Literal["summarized"] | None = None


class JsonFormat(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """JSON that follows a schema."""

    schema: dict[str, Any]


class OutputConfig(Struct, forbid_unknown_fields=True):
    """``effort`` is for models that accept ``reasoning_effort``."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class MessageMetadata(Struct, forbid_unknown_fields=True):
    """Who asks; requests of one user go to the same model of a route."""

    user_id: str | None = None


class Prompt(Struct, kw_only=True, forbid_unknown_fields=True):
    """What both routes take."""

    model: str
    messages: Annotated[list[MessageParam], Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[ToolParam], Meta(max_length=128)] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoChoice | None = None
    thinking: ThinkingOff | ThinkingAdaptive | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None


class MessageRequest(Prompt, kw_only=True, forbid_unknown_fields=True):
    """Anthropic's request. Hints (``cache_control``, ``service_tier``) are taken; what is not honoured is refused by name."""

    max_tokens: Annotated[int, Meta(ge=1)]
    stop_sequences: Annotated[list[Text], Meta(max_length=64)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    metadata: MessageMetadata | None = None
    stream: bool = False
    service_tier: Literal["auto", "standard_only"] | None = None
