"""Google's request as ports.Chat: pure functions; what cannot be answered is an ApiError 400 that names it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat
from lsbuild_runtime.routes.google.answer import Call, ModelOutput, Step
from lsbuild_runtime.routes.google.request import (
    CallStep,
    Declaration,
    FunctionTool,
    GenerationConfig,
    ImageContent,
    InteractionRequest,
    Item,
    ModelStep,
    ResultStep,
    TextContent,
    TextFormat,
    ThoughtStep,
    ToolChoiceConfig,
    Turn,
    UserStep,
)
from lsbuild_runtime.routes.messages import (
    AnyMessage,
    AssistantMessage,
    ImagePart,
    ImageUrl,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    checked,
)
from lsbuild_runtime.routes.sampling import Tunable
from lsbuild_runtime.routes.translation import call, data_url, effort, json_format, result, spoken
from lsbuild_runtime.routes.wire import converted, plain, refused


def chat_of(wanted: InteractionRequest, service: Service, earlier: Sequence[AnyMessage] = ()) -> Chat:
    """The port's value, behind what was said ``earlier``; ApiError 400 for what cannot be answered."""
    images = "image" in service.metadata.get("modalities", ())
    config = wanted.generation_config or GenerationConfig()
    tuned = Tunable(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        seed=config.seed,
        stop=config.stop_sequences,
    )
    system = [SystemMessage(content=wanted.system_instruction)] if wanted.system_instruction else []
    tools = _tools(wanted.tools or ())
    choice = _tool_choice(config.tool_choice, tools)
    return Chat(
        messages=checked([*system, *earlier, *messages_of(wanted.input, images, earlier)], images),
        sampling=tuned.sampling(config.max_output_tokens, None, service.metadata.get("sampling", {})),
        tools=[tools[name] for name in choice.offered],
        tool_choice=choice.mode,
        response_format=_response_format(wanted),
        extra=effort(config.thinking_level, service, "generation_config.thinking_level", "level"),
        stream=bool(wanted.stream),
    )


def messages_of(
    given: str | dict[str, Any] | list[dict[str, Any]], images: bool, earlier: Sequence[AnyMessage] = ()
) -> Iterator[AnyMessage]:
    """OpenAI's messages; what the model said, thought and called in a row is one message of it.

    A result may be that of a call that was made ``earlier``.
    """
    items = _items(given)
    if not items:
        raise refused("input", "it is empty")
    if _speaker(items[-1][1]) == "model":
        raise refused(items[-1][0], "the last step is the user's or a tool's; what the model said is not continued")
    before = [made for message in earlier if isinstance(message, AssistantMessage) for made in message.tool_calls or ()]
    open_calls = {made.id: made.function.name for made in before}
    for kind, run in groupby(items, key=lambda item: _speaker(item[1])):
        steps = list(run)
        if kind == "model":
            message = _assistant([step for _, step in steps])
            open_calls.update((made.id, made.function.name) for made in message.tool_calls or ())
            yield message
        elif kind == "tool":
            yield from (_result(place, step, open_calls) for place, step in steps if isinstance(step, ResultStep))
        else:
            yield UserMessage(content=[part for place, step in steps for part in _parts(place, step, images)])


def said(steps: Sequence[Step]) -> dict[str, Any]:
    """The steps of an answer as OpenAI's message of the model, to go on from."""
    text = "".join(each.text for step in steps if isinstance(step, ModelOutput) for each in step.content or ())
    calls = [call(step.id, step.name, step.arguments) for step in steps if isinstance(step, Call)]
    message: dict[str, Any] = plain(AssistantMessage(content=text, tool_calls=calls or None))
    return message


def _items(given: str | dict[str, Any] | list[dict[str, Any]]) -> list[tuple[str, Item]]:
    """What was said, and where each stands in the request."""
    if isinstance(given, str):
        return [("input", TextContent(given))]
    if isinstance(given, dict):
        return [("input", converted(given, Item, "input"))]  # type: ignore[arg-type]
    if given and all("role" in entry for entry in given):
        turns = converted(given, list[Turn], "input")
        return [pair for index, turn in enumerate(turns) for pair in _of_turn(f"input[{index}].content", turn)]
    steps = converted(given, list[Item], "input")
    return [(f"input[{index}]", step) for index, step in enumerate(steps)]


def _of_turn(place: str, turn: Turn) -> Iterator[tuple[str, Item]]:
    contents = [TextContent(turn.content)] if isinstance(turn.content, str) else turn.content
    for index, content in enumerate(contents):
        if isinstance(content, TextContent):
            yield f"{place}[{index}]", ModelStep([content]) if turn.role == "model" else UserStep([content])
        elif isinstance(content, CallStep) != (turn.role == "model"):
            raise refused(f"{place}[{index}].type", f"not a content of the role {turn.role!r}")
        else:
            yield f"{place}[{index}]", content


def _speaker(step: Item) -> str:
    if isinstance(step, ResultStep):
        return "tool"
    return "model" if isinstance(step, ModelStep | ThoughtStep | CallStep) else "user"


def _parts(place: str, step: Item, images: bool) -> Iterator[TextPart | ImagePart]:
    for content in step.content if isinstance(step, UserStep) else [step]:
        if isinstance(content, TextContent):
            yield TextPart(content.text)
        elif isinstance(content, ImageContent):
            if not images:
                raise refused(f"{place}.type", "this model takes text only")
            if (content.data is None) == (content.uri is None):
                raise refused(f"{place}.data", "an image has either data or a uri")
            yield ImagePart(ImageUrl(content.uri or data_url(content.mime_type, content.data or "")))


def _assistant(steps: Sequence[Item]) -> AssistantMessage:
    calls = [call(step.id or step.name, step.name, step.arguments) for step in steps if isinstance(step, CallStep)]
    text = "".join(each.text for step in steps if isinstance(step, ModelStep) for each in step.content)
    thoughts = "".join(each.text for step in steps if isinstance(step, ThoughtStep) for each in step.summary)
    return spoken(text, calls, thoughts)


def _result(place: str, step: ResultStep, open_calls: Mapping[str, str]) -> ToolMessage:
    """A result belongs to the call of its id; one without an id, to the call of its function, as in the older form."""
    number = step.call_id or step.id or step.name or ""
    if number not in open_calls:
        raise refused(f"{place}.call_id", "no earlier step is a function_call of that id")
    said = step.result
    if isinstance(said, list):
        said = "\n".join(content.text for content in said)
    elif isinstance(said, dict):
        said = msgspec.json.encode(said).decode()
    return result(number, said, failed=bool(step.is_error))


def _tools(given: Sequence[FunctionTool]) -> dict[str, dict[str, Any]]:
    tools: dict[str, dict[str, Any]] = {}
    for index, tool in enumerate(given):
        if (tool.name is None) == (tool.function_declarations is None):
            raise refused(f"tools[{index}].name", "a tool has either a name or function_declarations")
        for function in tool.function_declarations or [Declaration(tool.name or "", tool.description, tool.parameters)]:
            tools[function.name] = {"type": "function", "function": plain(function)}
    return tools


class _Choice(Struct, frozen=True):
    """The port's ``tool_choice``, and the names of the tools that are offered."""

    mode: str
    offered: tuple[str, ...]


def _tool_choice(given: str | ToolChoiceConfig | None, tools: Mapping[str, Any]) -> _Choice:
    mode, offered = given or "auto", tuple(tools)
    if isinstance(given, ToolChoiceConfig):
        mode, offered = given.allowed_tools.mode, tuple(given.allowed_tools.tools)
        if missing := [name for name in offered if name not in tools]:
            place = "generation_config.tool_choice.allowed_tools.tools"
            raise refused(place, f"no tool is named {missing[0][:60]!r}")
    if mode == "any" and not offered:
        raise refused("generation_config.tool_choice", "'any' needs tools")
    if mode == "none" or not offered:
        return _Choice("none", offered)
    if mode == "any":
        return _Choice(
            "required" if len(offered) > 1 or not isinstance(given, ToolChoiceConfig) else offered[0], offered
        )
    return _Choice("auto", offered)


def _response_format(wanted: InteractionRequest) -> dict[str, Any] | None:
    given = wanted.response_format
    if isinstance(given, list):
        if len(given) != 1:
            raise refused("response_format", "one format, please")
        given = given[0]
    if given is not None and wanted.response_mime_type == "application/json" and given.get("type") != "text":
        return json_format(given)  # the older form: the schema itself
    format_ = TextFormat("text") if given is None else converted(given, TextFormat, "response_format")
    if "application/json" not in (format_.mime_type, wanted.response_mime_type):
        return None
    return {"type": "json_object"} if format_.schema is None else json_format(format_.schema)
