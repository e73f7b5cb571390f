"""POST /v1/responses as it comes over the wire: Structs, and the refusals that their types cannot word; it looks nothing up."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from lsbuild_runtime.http import Request
from lsbuild_runtime.prompts import PromptRef
from lsbuild_runtime.responses.items import Id, Item, Name
from lsbuild_runtime.responses.tool_params import ToolChoice, ToolParam, Wire, check_tool, usual_choice, usual_tool
from lsbuild_runtime.routes.fields import Metadata
from lsbuild_runtime.routes.sampling import Penalty
from lsbuild_runtime.routes.wire import decode, invalid, refused

RESULTS = "file_search_call.results"
LOGPROBS = "message.output_text.logprobs"
IMAGES = "message.input_image.image_url"
INCLUDABLE = (RESULTS, LOGPROBS, IMAGES)
"""What ``include`` may name; the images of messages are shown anyway."""
SHORTEST_OUTPUT = 16
"""OpenAI's least ``max_output_tokens``."""
_KNOWN_INCLUDES = {
    "reasoning.encrypted_content": "reasoning is not encrypted here; keep the conversation with store, or send items back",
    "web_search_call.action.sources": "a search tool of the spec gives text, its sources are in it",
    "web_search_call.results": "a search tool of the spec gives text for the model only",
    "code_interpreter_call.outputs": "there is no code interpreter",
    "computer_call_output.output.image_url": "there is no computer use",
}
_ABSENT_ITEMS = ("computer_call", "computer_call_output", "code_interpreter_call", "image_generation_call", "local_shell_call",
                 "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output",
                 "custom_tool_call", "custom_tool_call_output", "tool_search_call", "tool_search_output", "additional_tools",
                 "configuration_update", "program", "program_output", "compaction_trigger")  # fmt: skip


class PlainText(Wire, tag_field="type", tag="text"):
    """Plain text."""


class JsonObject(Wire, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(Wire, tag_field="type", tag="json_schema"):
    """JSON that follows a schema."""

    name: Name
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextConfig(Wire):
    """The form of the answer's text."""

    format: PlainText | JsonObject | JsonSchema | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningConfig(Wire):
    """``effort`` goes to models that accept it. ``summary`` shows what the model thought as one summary."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ConversationRef(Wire):
    """A conversation by its id."""

    id: str


class StreamOptions(Wire):
    """``include_obfuscation`` may only be false: deltas are not padded."""

    include_obfuscation: bool | None = None


class Asked(Wire):
    """What a request has in common with those for a count and for compaction: a model and what it is told."""

    model: str | None = None
    input: str | list[Item] | None = None
    instructions: str | None = None
    previous_response_id: Id | None = None
    conversation: str | ConversationRef | None = None
    tools: Annotated[list[ToolParam], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None

    @property
    def conversation_id(self) -> str:
        """The id of the conversation, or ""."""
        given = self.conversation
        return given.id if isinstance(given, ConversationRef) else given or ""


class ResponseRequest(Asked):
    """OpenAI's request; ``guardrails`` and ``max_infer_iters`` are Llama Stack's."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    max_output_tokens: Annotated[int, Meta(ge=SHORTEST_OUTPUT)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    max_infer_iters: Annotated[int, Meta(ge=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    prompt: PromptRef | None = None
    background: bool | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    user: str | None = None
    guardrails: bool | list[str | dict[str, Any]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class CompactRequest(Asked):
    """What is to be put into few words."""


class CountRequest(Asked):
    """What is to be counted."""


_RAW = msgspec.json.Decoder(dict[str, Any])


def read(request: Request, kind: type[Any] = ResponseRequest) -> Any:
    """The body as ``kind``; ApiError 400 names what is wrong, and says what to do for what this server does not have."""
    return converted(decode(request, _RAW), kind)


def converted(raw: dict[str, Any], kind: type[Any] = ResponseRequest) -> Any:
    """As ``read``, of a decoded body."""
    whole = {**raw, **{name: usual(raw[name], name) for name in ("input", "items") if isinstance(raw.get(name), list)}}
    if isinstance(raw.get("tools"), list):
        whole["tools"] = [usual_tool(tool, f"tools[{place}]") for place, tool in enumerate(raw["tools"])]
    if isinstance(choice := raw.get("tool_choice"), dict):
        whole["tool_choice"] = usual_choice(choice)
    try:
        found = msgspec.convert(whole, kind, str_keys=True)
        msgspec.json.encode(whole)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except UnicodeEncodeError:
        raise refused("input", "half of a surrogate pair is no character") from None
    if isinstance(found, ResponseRequest):
        _check(found)
    return found


def usual(items: list[Any], name: str) -> list[Any]:
    """Items with the ``type`` that OpenAI lets clients leave out: a message's, and that of a reference."""
    return [_usual(item, f"{name}[{place}]") for place, item in enumerate(items)]


def _usual(item: Any, place: str) -> Any:
    if not isinstance(item, dict):
        return item
    kind = item.get("type")
    if kind in _ABSENT_ITEMS:
        raise refused(f"{place}.type", f"items of type {kind!r} belong to tools that are not available here")
    if kind is None:
        return {**item, "type": "message" if "role" in item or "content" in item else "item_reference"}
    return item


def included(given: list[str] | None, param: str = "include") -> frozenset[str]:
    """What a client wants to see; ApiError 400 for what there is not."""
    for place, name in enumerate(given or ()):
        if name not in INCLUDABLE:
            why = _KNOWN_INCLUDES.get(name, f"expected one of {', '.join(INCLUDABLE)}")
            raise refused(f"{param}[{place}]", f"{name[:60]!r} cannot be included: {why}", "unsupported_parameter")
    return frozenset(given or ())


def _check(wanted: ResponseRequest) -> None:
    """Combinations that make no sense, and values that are not honoured."""
    included(wanted.include)
    if wanted.conversation is not None and wanted.previous_response_id is not None:
        raise refused("previous_response_id", "cannot be combined with conversation; send one of them")
    if wanted.background and wanted.store is False:
        raise refused("background", "a response in the background is stored; leave store out, or say true")
    if wanted.stream_options is not None:
        if not wanted.stream:
            raise refused("stream_options", "only allowed when stream is true")
        if wanted.stream_options.include_obfuscation:
            raise refused("stream_options.include_obfuscation", "deltas are not padded here; say false")
    if wanted.reasoning is not None and "concise" in (wanted.reasoning.summary, wanted.reasoning.generate_summary):
        raise refused("reasoning.summary", "nothing condenses what a model thought; ask for 'auto' or 'detailed'")
    seen: set[str] = set()
    for place, item in enumerate(wanted.tools or ()):
        check_tool(item, f"tools[{place}]", seen)
