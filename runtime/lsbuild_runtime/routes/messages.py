"""Chat messages and tools as they come over the wire, and the checks that go beyond their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lsbuild_runtime.routes.wire import plain, refused

Name = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """A text part of a message."""

    text: str


class ImageUrl(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Where an image is: an http(s) or data URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Struct, tag_field="type", tag="image_url", forbid_unknown_fields=True):
    """An image part; only for models that take images."""

    image_url: ImageUrl


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """What an assistant refused earlier."""

    refusal: str


class Message(Struct, tag_field="role", forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What all messages share."""

    name: str | None = None


class SystemMessage(Message, tag="system"):
    """Instructions."""

    content: str | list[TextPart]


class DeveloperMessage(Message, tag="developer"):
    """Instructions, by their newer name."""

    content: str | list[TextPart]


class UserMessage(Message, tag="user"):
    """What the user says."""

    content: str | list[TextPart | ImagePart]


class FunctionCall(Struct, forbid_unknown_fields=True):
    """A call: ``arguments`` is JSON text."""

    name: str
    arguments: str


class AssistantToolCall(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A call the assistant made."""

    id: str
    function: FunctionCall


class AssistantMessage(Message, tag="assistant"):
    """What the model said earlier. The fields of an answer may be sent back as they came; those are not read again."""

    content: str | list[TextPart | RefusalPart] | None = None
    tool_calls: list[AssistantToolCall] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(Message, tag="tool"):
    """The result of a call."""

    tool_call_id: str
    content: str | list[TextPart]


AnyMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionDefinition(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A function the model may call; ``parameters`` is a JSON Schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A tool; functions only."""

    function: FunctionDefinition


class FunctionName(Struct, forbid_unknown_fields=True):
    """The name of a function."""

    name: Name


class NamedTool(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """``tool_choice`` naming one function."""

    function: FunctionName


def checked(messages: Sequence[AnyMessage], images: bool) -> list[Mapping[str, Any]]:
    """The messages as OpenAI's JSON objects; ApiError 400 for an order or content that cannot be answered.

    Args:
        images: whether the model takes image parts. One that does not gets each content as one text (parts joined by
            a line break), so that no chat template has to know about parts.
    """
    open_calls: set[str] = set()
    result: list[Mapping[str, Any]] = []
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if isinstance(message, AssistantMessage):
            if message.content is None and not message.tool_calls and message.refusal is None:
                raise refused(f"{place}.content", "an assistant message needs content or tool_calls")
            open_calls.update(call.id for call in message.tool_calls or ())
            message.annotations = None
        elif isinstance(message, ToolMessage) and message.tool_call_id not in open_calls:
            raise refused(f"{place}.tool_call_id", "no earlier assistant message has a tool call of that id")
        if not images:
            _flatten(message, place)
        result.append(plain(message))
    return result


def _flatten(message: AnyMessage, place: str) -> None:
    if not isinstance(message.content, list):
        return
    texts: list[str] = []
    for index, part in enumerate(message.content):
        if isinstance(part, ImagePart):
            raise refused(f"{place}.content[{index}].type", "this model takes text only")
        texts.append(part.refusal if isinstance(part, RefusalPart) else part.text)
    message.content = "\n".join(texts)
