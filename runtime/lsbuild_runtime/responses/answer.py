"""A response as OpenAI's clients see it, and the events of its stream; Structs only."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ports import TokenLogprob, Usage
from lsbuild_runtime.responses.items import Item
from lsbuild_runtime.routes.sampling import clamp


class ResponseError(Struct):
    """Why a response failed: one of OpenAI's codes, and in ``type`` the code of the error as a chat would have it.

    ``param`` names the field of the request at fault, if one is.
    """

    code: str
    message: str
    param: str | None = None
    type: str | None = None


def error_of(error: ApiError) -> ResponseError:
    """The wire form of ``error``."""
    code = "rate_limit_exceeded" if error.status == 429 else "server_error" if error.status >= 500 else "invalid_prompt"
    return ResponseError(code, error.message, error.param, error.code or error.type)


class IncompleteDetails(Struct, omit_defaults=True):
    """Why a response is incomplete. ``limit`` names the limit of the run behind OpenAI's reason."""

    reason: str
    limit: str | None = None


class InputDetails(Struct):
    """Details of the tokens that were read."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    """Details of the tokens that were written; those of reasoning are not told apart."""

    reasoning_tokens: int = 0


class ResponseUsage(Struct):
    """Token counts of all steps."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ConversationOf(Struct):
    """The conversation of a response."""

    id: str


class ResponseObject(Struct, kw_only=True):
    """A response, with OpenAI's fields."""

    id: str
    object: str = "response"
    created_at: int
    completed_at: int | None = None
    status: str = "in_progress"
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str
    output: list[Item] = []
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    conversation: ConversationOf | None = None
    prompt: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    reasoning: dict[str, Any] | None = None
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = True
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    text: dict[str, Any]
    tool_choice: Any = "auto"
    tools: list[Any] = []
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    metadata: dict[str, str] = {}


class StreamEvent(Struct, kw_only=True):
    """One event of a stream; which fields it has is decided by its type."""

    type: str
    sequence_number: int = 0
    response: ResponseObject | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    item: Item | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    summary_index: int | UnsetType = UNSET
    annotation_index: int | UnsetType = UNSET
    part: Any = UNSET
    annotation: Any = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    logprobs: list[Any] | UnsetType = UNSET


class InputItems(Struct):
    """A page of items."""

    object: str
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ListedResponse(ResponseObject, kw_only=True):
    """A response with its input, as Llama Stack lists it."""

    input: list[Item] = []


class ResponsePage(Struct):
    """A page of responses."""

    object: str
    data: list[ListedResponse]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ResponseDeleted(Struct):
    """The response that was deleted."""

    id: str
    object: str = "response"
    deleted: bool = True


class InputTokens(Struct):
    """How long a prompt is."""

    input_tokens: int
    object: str = "response.input_tokens"


class CompactedResponse(Struct, kw_only=True):
    """A conversation in few words: what to send as ``input`` from now on."""

    id: str
    object: str = "response.compaction"
    created_at: int
    output: list[Item]
    usage: ResponseUsage


def usage_of(usage: Usage) -> ResponseUsage:
    """The wire form of ``usage``."""
    return ResponseUsage(
        usage.prompt, InputDetails(usage.cached), usage.completion, OutputDetails(), usage.prompt + usage.completion
    )


def logprobs_of(tokens: tuple[TokenLogprob, ...]) -> list[Any]:
    """The wire form of log probabilities."""
    return [
        {
            "token": token.token,
            "bytes": list(token.raw),
            "logprob": clamp(token.logprob),
            "top_logprobs": [
                {"token": other.token, "bytes": list(other.raw), "logprob": clamp(other.logprob)} for other in token.top
            ],
        }
        for token in tokens
    ]
