"""From items to the messages of a chat: what was said, called and found, in OpenAI's chat form; it looks nothing up."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild_runtime.agents.runs import Approval
from lsbuild_runtime.ports import ToolCall
from lsbuild_runtime.responses.items import (
    Compaction,
    FileSearchCall,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Item,
    McpApprovalRequest,
    McpApprovalResponse,
    McpCall,
    Message,
    OutputRefusal,
    OutputText,
    WebSearchCall,
)
from lsbuild_runtime.routes.wire import refused

Named = Callable[[str, str], str]
"""The name by which the model knows a tool: ``(server_label, name) -> name``."""

UNANSWERED = "The person who was asked did not answer; the call was not made."
CUT = "The call was cut off before it ended."
SUMMARY = "What was said so far, in few words:\n"
_SEARCH, _WEB = "file_search", "web_search"


class Told(Struct, frozen=True):
    """What items tell a model. ``waiting`` are the answers of persons to the calls that the last message makes, with the
    id of the request for each by that of its call."""

    messages: tuple[Mapping[str, Any], ...]
    approvals: tuple[Approval, ...] = ()
    requests: Mapping[str, str] = {}
    untrusted: bool = False
    """Whether results of tools are among them."""


def told(items: Sequence[Item], images: bool, named: Named, own: int | None = None) -> Told:
    """The messages for ``items``.

    Args:
        images: whether the model takes image parts; one that does not gets each content as one text.
        own: how many of the items, at the end, are the request's, which counts from there; None: all.
    """
    return _Telling(items, images, named, 0 if own is None else len(items) - own).told()


class _Telling:
    def __init__(self, items: Sequence[Item], images: bool, named: Named, earlier: int) -> None:
        self._items = items
        self._images = images
        self._named = named
        self._earlier = earlier
        self._messages: list[dict[str, Any]] = []
        self._calls: set[str] = set()
        self._outputs = {item.call_id for item in items if isinstance(item, FunctionCallOutput)}
        self._answers = {item.approval_request_id: item for item in items if isinstance(item, McpApprovalResponse)}
        self._made = {item.approval_request_id for item in items if isinstance(item, McpCall)}
        self._waiting: list[tuple[McpApprovalRequest, McpApprovalResponse]] = []
        self._untrusted = False

    def told(self) -> Told:
        for index, item in enumerate(self._items):
            self._take(item, self._place(index))
        for index, answer in enumerate(self._items):
            if isinstance(answer, McpApprovalResponse):
                self._check_answer(answer, f"{self._place(index)}.approval_request_id")
        calls = [(_call(asked.id or "", self._named(asked.server_label, asked.name), asked.arguments), answer)
                 for asked, answer in self._waiting]  # fmt: skip
        if calls:  # after everything else: their results have to follow at once
            self._messages.append({"role": "assistant", "content": None, "tool_calls": [call for call, _ in calls]})
        approvals = tuple(
            Approval(
                ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"]),
                answer.approve,
                answer.reason or "",
            )
            for call, answer in calls
        )
        requests = {
            approval.call.id: answer.approval_request_id for approval, (_, answer) in zip(approvals, calls, strict=True)
        }
        return Told(tuple(self._messages), approvals, requests, self._untrusted)

    def _place(self, index: int) -> str:
        """How a fault names the item: by its place in the request, or as one of those before it."""
        own = index - self._earlier
        return f"input[{own}]" if own >= 0 else f"earlier[{index}]"

    def _take(self, item: Item, place: str) -> None:
        if isinstance(item, Message):
            self._message(item, place)
        elif isinstance(item, FunctionCall):
            self._calls.add(item.call_id)
            self._called(item.call_id, item.name, item.arguments)
            if item.call_id not in self._outputs:
                raise refused("input", f"no function_call_output answers the call {item.call_id!r}")
        elif isinstance(item, FunctionCallOutput):
            if item.call_id not in self._calls:
                raise refused(f"{place}.call_id", "no earlier function_call has that call_id")
            self._result(item.call_id, self._content(item.output, f"{place}.output"))
        elif isinstance(item, McpCall):
            self._called(item.id or place, self._named(item.server_label, item.name), item.arguments)
            self._result(item.id or place, item.output if item.output is not None else _error(item))
            self._untrusted = True
        elif isinstance(item, FileSearchCall | WebSearchCall):
            self._searched(item, place)
        elif isinstance(item, McpApprovalRequest):
            self._asked(item)
        elif isinstance(item, Compaction):
            self._messages.append({"role": "user", "content": SUMMARY + opened(item, f"{place}.encrypted_content")})
            self._untrusted = True

    def _message(self, item: Message, place: str) -> None:
        if item.role == "assistant":
            self._messages.append(_assistant(item, place))
            return
        self._messages.append({"role": item.role, "content": self._content(item.content, f"{place}.content")})

    def _content(self, content: str | Sequence[Any], place: str) -> Any:
        if isinstance(content, str):
            return content
        parts = [self._part(part, f"{place}[{index}]") for index, part in enumerate(content)]
        if self._images and any(part["type"] == "image_url" for part in parts):
            return parts
        return "\n".join(part["text"] for part in parts)

    def _part(self, part: Any, place: str) -> dict[str, Any]:
        if isinstance(part, InputText | OutputText):
            return {"type": "text", "text": part.text}
        if isinstance(part, InputImage):
            return self._image(part, place)
        if isinstance(part, InputFile):
            raise refused(place, "files are not read as a whole; put them into a vector store and use file_search")
        raise refused(f"{place}.type", "a refusal is an assistant's")

    def _image(self, part: InputImage, place: str) -> dict[str, Any]:
        if not self._images:
            raise refused(f"{place}.type", "this model takes text only")
        if part.image_url is None:
            raise refused(
                f"{place}.image_url", "send the image as a URL or as a data URL", "missing_required_parameter"
            )
        detail = {"detail": part.detail} if part.detail else {}
        return {"type": "image_url", "image_url": {"url": part.image_url, **detail}}

    def _searched(self, item: FileSearchCall | WebSearchCall, place: str) -> None:
        name = _SEARCH if isinstance(item, FileSearchCall) else _WEB
        found = _passages(item) if isinstance(item, FileSearchCall) else item.results
        if not found:
            return  # sent back without its results: there is nothing to tell
        queries = item.queries if isinstance(item, FileSearchCall) else [str(item.action.get("query", ""))]
        self._called(item.id or place, name, msgspec.json.encode({"query": " ".join(queries)}).decode())
        self._result(item.id or place, str(found))
        self._untrusted = True

    def _asked(self, item: McpApprovalRequest) -> None:
        if item.id in self._made:
            return  # the call itself is there
        answer = self._answers.get(item.id or "")
        if answer is not None:
            self._waiting.append((item, answer))
            return
        self._called(item.id or "", self._named(item.server_label, item.name), item.arguments)
        self._result(item.id or "", UNANSWERED)

    def _check_answer(self, answer: McpApprovalResponse, place: str) -> None:
        if not any(
            isinstance(item, McpApprovalRequest) and item.id == answer.approval_request_id for item in self._items
        ):
            raise refused(place, f"no mcp_approval_request {answer.approval_request_id[:80]!r} is in the conversation")

    def _called(self, call_id: str, name: str, arguments: str) -> None:
        """Add a call: to the message before it where that is the same answer of the model."""
        last = self._messages[-1] if self._messages else None
        if last is None or last["role"] != "assistant":
            last = {"role": "assistant", "content": None}
            self._messages.append(last)
        last.setdefault("tool_calls", []).append(_call(call_id, name, arguments))

    def _result(self, call_id: str, content: Any) -> None:
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": content})


def _call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _assistant(item: Message, place: str) -> dict[str, Any]:
    if isinstance(item.content, str):
        return {"role": "assistant", "content": item.content}
    texts = [part.text for part in item.content if isinstance(part, OutputText | InputText)]
    refusals = [part.refusal for part in item.content if isinstance(part, OutputRefusal)]
    if len(texts) + len(refusals) < len(item.content):
        raise refused(f"{place}.content", "an assistant's message has parts of type output_text and refusal")
    return {"role": "assistant", "content": "\n".join([*texts, *refusals])}


def _error(item: McpCall) -> str:
    error = item.error
    if isinstance(error, dict):
        return str(error.get("message") or error.get("content") or "The call failed.")
    return str(error) if error else CUT


def _passages(item: FileSearchCall) -> str:
    texts = [result.text for result in item.results or () if result.text]
    return "".join(f"[{number}] {text}\n" for number, text in enumerate(texts, 1))


def plain_name(label: str, name: str) -> str:
    """A name in OpenAI's pattern for a tool that is not bound just now, as in the history of a conversation."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{label}_{name}")[:64]


def closed(text: str) -> str:
    """A summary as a compaction item carries it."""
    return b64encode(text.encode()).decode()


def opened(item: Compaction, place: str) -> str:
    """The summary in a compaction item; ApiError 400 for one of another server."""
    try:
        return b64decode(item.encrypted_content, validate=True).decode()
    except (binascii.Error, ValueError):
        raise refused(place, "this compaction was not made here and cannot be read") from None
