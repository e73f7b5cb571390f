"""One call of a tool, whatever the tool does: its result, never more than a model reads, and its faults as its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.tools import ToolResult, ToolRuntime

RESULT_CHARACTERS = 100_000
"""What a model reads of one result at most."""


def called(
    runtime: ToolRuntime, name: str, arguments: Mapping[str, Any], context: Context
) -> tuple[ToolResult, BaseException | None]:
    """What the tool gives, not too long, and what it raised; whatever it does wrong is its own failure."""
    try:
        result = runtime.call(name, arguments, context)
    except ApiError as error:
        return ToolResult(error.message, failed=True), None
    except BaseException as error:
        return ToolResult(f"The tool broke ({type(error).__name__}). Go on without it.", failed=True), error
    length = len(result.text)
    if length <= RESULT_CHARACTERS:
        return result, None
    text = f"{result.text[:RESULT_CHARACTERS]}\n[cut here: the result has {length} characters]"
    return replace(result, text=text, structured=None), None
