"""What ``tool_choice`` means for the tools at hand; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lsbuild_runtime.agents.runs import Bound
from lsbuild_runtime.ports import Chat
from lsbuild_runtime.responses.called import SEARCH, WEB
from lsbuild_runtime.responses.tool_params import (
    ChooseAllowed,
    ChooseFileSearch,
    ChooseFunction,
    ChooseMcp,
    ChooseWebSearch,
    ToolChoice,
)
from lsbuild_runtime.routes.wire import refused

Chosen = ChooseFunction | ChooseFileSearch | ChooseWebSearch | ChooseMcp


def chosen(choice: ToolChoice | None, chat: Chat, tools: tuple[Bound, ...]) -> tuple[tuple[Bound, ...], str]:
    """The tools that may be called, and the chat's ``tool_choice``; ApiError 400 for a choice that there is not."""
    functions = [tool["function"]["name"] for tool in chat.tools]
    if choice == "none":
        return (), "none"
    if choice is None or choice == "auto":
        return tools, "auto" if functions or tools else "none"
    if isinstance(choice, str):
        if not (functions or tools):
            raise refused("tool_choice", "'required' needs tools")
        return tools, "required"
    if isinstance(choice, ChooseAllowed):
        picked = [
            pick
            for place, each in enumerate(choice.tools)
            for pick in _picked(each, tools, functions, f"tool_choice.tools[{place}]")
        ]
        return tuple(tool for tool in tools if tool.name in picked), choice.mode
    names = _picked(choice, tools, functions, "tool_choice")
    if len(names) == 1:
        return tools, names[0]
    return tuple(tool for tool in tools if tool.name in names), "required"


def _picked(choice: Chosen, tools: Sequence[Bound], functions: Sequence[str], place: str) -> list[str]:
    """The names that a choice means."""
    if isinstance(choice, ChooseFunction):
        found = [name for name in (*functions, *(tool.name for tool in tools)) if name == choice.name]
        what = f"no tool is named {choice.name[:64]!r}"
    elif isinstance(choice, ChooseMcp):
        found = [
            tool.name
            for tool in tools
            if tool.group == choice.server_label and choice.name in (None, tool.info.name, tool.name)
        ]
        what = (
            f"no tool of {choice.server_label!r} is named {choice.name!r}"
            if choice.name
            else f"no tools of {choice.server_label!r}"
        )
    else:
        group = SEARCH if isinstance(choice, ChooseFileSearch) else WEB
        found = [tool.name for tool in tools if tool.group == group]
        what = f"there is no {group} among the tools"
    if not found:
        raise refused(place, what)
    return found[:1] if isinstance(choice, ChooseFunction) else found


def allowed(choice: ToolChoice | None, tools: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The client's functions that it allows."""
    if not isinstance(choice, ChooseAllowed):
        return tools
    names = {each.name for each in choice.tools if isinstance(each, ChooseFunction)}
    return [tool for tool in tools if tool["function"]["name"] in names]
