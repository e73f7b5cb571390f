"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's requests as ports.Chat; what is answered is told elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.counting import count
from lsbuild_runtime.http import Context, Request, Response, streamed
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat
from lsbuild_runtime.routes.anthropic_answer import ERRORS, Asked, TokenCount, events, named, whole
from lsbuild_runtime.routes.messages import (
    AnyMessage,
    AssistantMessage,
    AssistantToolCall,
    FunctionCall,
    ImagePart,
    ImageUrl,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    checked,
)
from lsbuild_runtime.routes.sampling import Text, Tunable, affinity, generate, language_model, takes
from lsbuild_runtime.routes.wire import decode, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
FAILED = "Error: "
"""What stands before the result of a tool that failed (``is_error``), for a model's template has no place for that."""


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
_ALLOWED: dict[str, tuple[type[Block], ...]] = {
    "user": (TextBlock, ImageBlock, ToolResultBlock),
    "assistant": (TextBlock, ThinkingBlock, ToolUseBlock),
    "system": (TextBlock,),
}


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


_CREATE = msgspec.json.Decoder(MessageRequest)
_COUNT = msgspec.json.Decoder(Prompt)


def create(app: Site, request: Request, _: str) -> Response:
    """Answer the messages, streamed or whole."""
    wanted = decode(request, _CREATE)
    service = language_model(app, wanted.model)
    chat = chat_of(wanted, service)
    context = request.context
    context.affinity = affinity(wanted.metadata.user_id if wanted.metadata else None)
    deltas = generate(app, service, "chat", lambda port: port.chat(chat, context), context)
    asked = Asked(wanted.model, tuple(wanted.stop_sequences or ()), isinstance(wanted.thinking, ThinkingAdaptive))
    if wanted.stream:
        return streamed(events(deltas, asked), named, ERRORS, context.request_id)
    return _answer(whole(deltas, asked), context)


def count_tokens(app: Site, request: Request, _: str) -> Response:
    """How many tokens the prompt would be; nothing is generated."""
    wanted = decode(request, _COUNT)
    service = language_model(app, wanted.model)
    chat = prompt_of(wanted, service)
    found = count(app.services.get(service.api, service.name), chat, request.context)
    return _answer(TokenCount(found), request.context)


def _answer(value: Struct, context: Context) -> Response:
    headers = {"content-type": "application/json", **ERRORS.headers(context.request_id)}
    return Response(200, msgspec.json.encode(value), headers)


def chat_of(wanted: MessageRequest, service: Service) -> Chat:
    """The port's value: the prompt, and how it is to be answered."""
    # A client that knows large models asks for more than a small one's context holds; that means: up to its end.
    holds = service.metadata.get("context_length")
    unbounded = isinstance(holds, int) and wanted.max_tokens >= holds
    tuned = Tunable(temperature=wanted.temperature, top_p=wanted.top_p, top_k=wanted.top_k, stop=wanted.stop_sequences)
    return msgspec.structs.replace(
        prompt_of(wanted, service),
        sampling=tuned.sampling(None if unbounded else wanted.max_tokens, None, service.metadata.get("sampling", {})),
        stream=wanted.stream,
    )


def prompt_of(wanted: Prompt, service: Service) -> Chat:
    """The port's value as far as the prompt goes; ApiError 400 for what cannot be answered."""
    images = "image" in service.metadata.get("modalities", ())
    choice = wanted.tool_choice
    config = wanted.output_config or OutputConfig()
    extra = {}
    if config.effort is not None:
        if not takes(service, "reasoning_effort"):
            raise refused("output_config.effort", "this model takes no effort", "unsupported_parameter")
        extra["reasoning_effort"] = config.effort
    return Chat(
        messages=checked([*_system(wanted.system), *messages_of(wanted.messages, images)], images),
        tools=[_tool(tool) for tool in wanted.tools or ()],
        tool_choice=_tool_choice(wanted),
        parallel_tool_calls=not (isinstance(choice, Choice) and choice.disable_parallel_tool_use),
        response_format=None if config.format is None else _response_format(config.format),
        extra=extra,
    )


def messages_of(messages: Sequence[MessageParam], images: bool) -> Iterator[AnyMessage]:
    """OpenAI's messages; turns of one role that follow each other are one turn, as at Anthropic."""
    if messages[-1].role == "assistant":
        raise refused(f"messages[{len(messages) - 1}].role", "the last turn is the user's; none is continued (prefill)")
    open_calls: set[str] = set()
    for role, turns in groupby(enumerate(messages), key=lambda turn: turn[1].role):
        blocks = [block for place, turn in turns for block in _blocks(turn, f"messages[{place}].content", images)]
        if role == "assistant":
            message = _assistant([block for _, block in blocks])
            open_calls.update(call.id for call in message.tool_calls or ())
            yield message
        elif role == "system":
            yield SystemMessage(content=_text([block for _, block in blocks]))
        else:
            yield from _user(blocks, open_calls)


def _blocks(turn: MessageParam, place: str, images: bool) -> list[tuple[str, AnyBlock]]:
    """The blocks of a turn and where each stands; ApiError 400 for one that the role or the model has no place for."""
    if isinstance(turn.content, str):
        return [(place, TextBlock(text=turn.content))]
    if not turn.content:
        raise refused(place, "a turn needs content")
    for index, block in enumerate(turn.content):
        if not isinstance(block, _ALLOWED[turn.role]):
            raise refused(f"{place}[{index}].type", f"not a block of the role {turn.role!r}")
        if isinstance(block, ImageBlock) and not images:
            raise refused(f"{place}[{index}].type", "this model takes text only")
    return [(f"{place}[{index}]", block) for index, block in enumerate(turn.content)]


def _user(blocks: Sequence[tuple[str, AnyBlock]], open_calls: set[str]) -> Iterator[AnyMessage]:
    for results, run in groupby(blocks, key=lambda block: isinstance(block[1], ToolResultBlock)):
        if not results:
            yield UserMessage(content=[part for _, block in run if (part := _part(block)) is not None])
            continue
        for place, block in run:
            if not isinstance(block, ToolResultBlock) or block.tool_use_id not in open_calls:
                raise refused(f"{place}.tool_use_id", "no earlier assistant turn has a tool_use of that id")
            content = block.content if isinstance(block.content, str) else _text(block.content)
            said = FAILED + content if block.is_error else content
            yield ToolMessage(tool_call_id=block.tool_use_id, content=said)


def _part(block: AnyBlock) -> TextPart | ImagePart | None:
    if isinstance(block, TextBlock):
        return TextPart(block.text)
    if isinstance(block, ImageBlock):
        return ImagePart(ImageUrl(_url(block.source)))
    return None


def _url(source: Base64Source | UrlSource) -> str:
    return source.url if isinstance(source, UrlSource) else f"data:{source.media_type};base64,{source.data}"


def _assistant(blocks: Sequence[AnyBlock]) -> AssistantMessage:
    calls = [
        AssistantToolCall(block.id, FunctionCall(block.name, msgspec.json.encode(block.input).decode()))
        for block in blocks
        if isinstance(block, ToolUseBlock)
    ]
    thoughts = "".join(block.thinking for block in blocks if isinstance(block, ThinkingBlock))
    text = "".join(block.text for block in blocks if isinstance(block, TextBlock))
    return AssistantMessage(
        content=text if text or not calls else None, tool_calls=calls or None, reasoning_content=thoughts or None
    )


def _text(blocks: Sequence[AnyBlock]) -> str:
    return "\n".join(block.text for block in blocks if isinstance(block, TextBlock))


def _system(system: str | list[TextBlock] | None) -> list[AnyMessage]:
    text = system if isinstance(system, str) else _text(system or ())
    return [SystemMessage(content=text)] if text else []


def _tool(tool: ToolParam) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(wanted: Prompt) -> str:
    names = {tool.name for tool in wanted.tools or ()}
    choice = wanted.tool_choice
    if isinstance(choice, ToolChoice):
        if choice.name not in names:
            raise refused("tool_choice.name", f"no tool is named {choice.name!r}")
        return choice.name
    if isinstance(choice, AnyChoice):
        if not names:
            raise refused("tool_choice.type", "'any' needs tools")
        return "required"
    return "none" if isinstance(choice, NoChoice) or not names else "auto"


def _response_format(wanted: JsonFormat) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": wanted.schema, "strict": True}}
