"""Turns a chat request into template variables, and refuses by name what a local model does not do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lsbuild_plugins.onnx.serve.forms import ToolForm
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ports import Chat

_KNOWN_EXTRA = frozenset({"chat_template_kwargs"})


def refuse(param: str, message: str) -> ApiError:
    """A 400 that names the parameter."""
    return ApiError(400, message, param=param, code="unsupported_parameter")


def check_supported(chat: Chat, form: ToolForm | None) -> None:
    """Raise ApiError 400 for parameters that would otherwise be ignored."""
    if chat.tools and chat.tool_choice != "none" and form is None:
        raise refuse("tools", "this model's chat template knows no tools; leave out 'tools' or use another model")
    if unknown := sorted(set(chat.extra) - _KNOWN_EXTRA):
        raise refuse(unknown[0], f"a local model does not take: {', '.join(unknown)}")
    if not isinstance(chat.extra.get("chat_template_kwargs", {}), Mapping):
        raise ApiError(400, "chat_template_kwargs must be an object", param="chat_template_kwargs")


def template_messages(
    messages: Sequence[Mapping[str, Any]], shield: Callable[[str], str], *, text_arguments: bool = False
) -> list[dict[str, Any]]:
    """Messages as templates expect them, which is what transformers users write by hand.

    Null fields are left out, ``content`` is text (parts are joined by newlines, none is ""), the arguments of tool
    calls are objects instead of JSON text (unless the template wants ``text_arguments``), and OpenAI's role "developer"
    is called "system". ``shield`` goes over the words of everyone but the assistant, whose turns templates take apart by its
    special tokens.
    """
    out = [_message(index, message, text_arguments) for index, message in enumerate(messages)]
    return [m if m["role"] == "assistant" else {**m, "content": shield(m["content"])} for m in out]


def _message(index: int, message: Mapping[str, Any], text_arguments: bool) -> dict[str, Any]:
    out = {key: value for key, value in message.items() if value is not None}
    out["role"] = "system" if out.get("role") == "developer" else out.get("role")
    out["content"] = _text(index, out.get("content", ""))
    calls = out.pop("tool_calls", None)
    if calls:
        out["tool_calls"] = [dict(call) if text_arguments else _call(call) for call in calls]
    return out


def _text(index: int, content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    for place, part in enumerate(content):
        if part.get("type") != "text":
            param = f"messages[{index}].content[{place}]"
            raise ApiError(400, f"this model reads text only, not {part.get('type')!r}", param=param)
    return "\n".join(part.get("text", "") for part in content)


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function", {}))
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            function["arguments"] = json.loads(arguments)
        except ValueError:
            # A model's own broken call, sent back in the history: the template shows it as the text it was.
            function["arguments"] = arguments
    return {**call, "function": function}
