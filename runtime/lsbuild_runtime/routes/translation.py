"""What APIs of other vendors share on their way to OpenAI's messages and back; it knows none of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild_runtime.manifest import Service
from lsbuild_runtime.routes.messages import AssistantMessage, AssistantToolCall, FunctionCall, ToolMessage
from lsbuild_runtime.routes.sampling import takes
from lsbuild_runtime.routes.wire import refused

FAILED = "Error: "
"""What stands before the result of a tool that failed (``is_error``), for a model's template has no place for that."""


def call(number: str, name: str, given: Any) -> AssistantToolCall:
    """A call that the model made; ``given`` are its arguments as an object."""
    return AssistantToolCall(number, FunctionCall(name, msgspec.json.encode(given).decode()))


def spoken(text: str, calls: Iterable[AssistantToolCall], thoughts: str = "") -> AssistantMessage:
    """What the model said, called and thought in one turn."""
    made = list(calls)
    content = text if text or not made else None
    return AssistantMessage(content=content, tool_calls=made or None, reasoning_content=thoughts or None)


def result(number: str, text: str, *, failed: bool) -> ToolMessage:
    """What a tool gave for the call ``number``."""
    return ToolMessage(tool_call_id=number, content=FAILED + text if failed else text)


def data_url(media_type: str, data: str) -> str:
    """An image in the request; ``data`` is base64."""
    return f"data:{media_type};base64,{data}"


def json_format(schema: dict[str, Any]) -> dict[str, Any]:
    """``response_format`` for a schema that is given without a name."""
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": schema, "strict": True}}


def effort(level: str | None, service: Service, place: str, called: str) -> dict[str, Any]:
    """The field for how long a model thinks; ApiError 400 at ``place`` when the model has no such field."""
    if level is None:
        return {}
    if not takes(service, "reasoning_effort"):
        raise refused(place, f"this model takes no {called}", "unsupported_parameter")
    return {"reasoning_effort": level}


def named(event: Struct) -> bytes:
    """An event of a stream as it is sent: under the name of its type."""
    name: str = event.__struct_config__.tag  # type: ignore[assignment]
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
