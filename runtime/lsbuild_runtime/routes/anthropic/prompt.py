"""Anthropic's request as ports.Chat: pure functions; what cannot be answered is an ApiError 400 that names it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat
from lsbuild_runtime.routes.anthropic.request import (
    AnyBlock,
    AnyChoice,
    Base64Source,
    Block,
    Choice,
    ImageBlock,
    MessageParam,
    MessageRequest,
    NoChoice,
    OutputConfig,
    Prompt,
    TextBlock,
    ThinkingBlock,
    ToolChoice,
    ToolParam,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from lsbuild_runtime.routes.messages import (
    AnyMessage,
    AssistantMessage,
    ImagePart,
    ImageUrl,
    SystemMessage,
    TextPart,
    UserMessage,
    checked,
)
from lsbuild_runtime.routes.sampling import Tunable
from lsbuild_runtime.routes.translation import call, data_url, effort, json_format, result, spoken
from lsbuild_runtime.routes.wire import refused

_ALLOWED: dict[str, tuple[type[Block], ...]] = {
    "user": (TextBlock, ImageBlock, ToolResultBlock),
    "assistant": (TextBlock, ThinkingBlock, ToolUseBlock),
    "system": (TextBlock,),
}


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
    return Chat(
        messages=checked([*_system(wanted.system), *messages_of(wanted.messages, images)], images),
        tools=[_tool(tool) for tool in wanted.tools or ()],
        tool_choice=_tool_choice(wanted),
        parallel_tool_calls=not (isinstance(choice, Choice) and choice.disable_parallel_tool_use),
        response_format=None if config.format is None else json_format(config.format.schema),
        extra=effort(config.effort, service, "output_config.effort", "effort"),
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
            open_calls.update(made.id for made in message.tool_calls or ())
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
            yield result(block.tool_use_id, content, failed=bool(block.is_error))


def _part(block: AnyBlock) -> TextPart | ImagePart | None:
    if isinstance(block, TextBlock):
        return TextPart(block.text)
    if isinstance(block, ImageBlock):
        return ImagePart(ImageUrl(_url(block.source)))
    return None


def _url(source: Base64Source | UrlSource) -> str:
    return source.url if isinstance(source, UrlSource) else data_url(source.media_type, source.data)


def _assistant(blocks: Sequence[AnyBlock]) -> AssistantMessage:
    calls = (call(block.id, block.name, block.input) for block in blocks if isinstance(block, ToolUseBlock))
    thoughts = "".join(block.thinking for block in blocks if isinstance(block, ThinkingBlock))
    text = "".join(block.text for block in blocks if isinstance(block, TextBlock))
    return spoken(text, calls, thoughts)


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
