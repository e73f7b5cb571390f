"""POST /v1/chat/completions: the request is checked here, answered by an Inference port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.http import ApiError, Request, Response, json_response, sse_response
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat
from lsbuild_runtime.routes.chat_answer import Head, events, whole
from lsbuild_runtime.routes.messages import AnyMessage, NamedTool, Tool, checked
from lsbuild_runtime.routes.sampling import Tunable, affinity, generate, language_model, now, takes
from lsbuild_runtime.routes.wire import decode, invalid, plain, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Plain text."""


class JsonObjectFormat(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class JsonSchema(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A named schema."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """JSON that follows a schema."""

    json_schema: JsonSchema


class ChatRequest(Tunable, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's request. Fields that need a provider's help (``reasoning_effort`` ...) are taken only for models that
    accept them (``accepts`` in the model's metadata) and refused by name otherwise."""

    model: str
    messages: Annotated[list[AnyMessage], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    store: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


_DECODER = msgspec.json.Decoder(ChatRequest)
_LOOSE = msgspec.json.Decoder(dict[str, Any])
_KNOWN = frozenset(ChatRequest.__struct_fields__)


def create(app: Site, request: Request, _: str) -> Response:
    """Answer a chat, streamed or whole."""
    wanted, extra = read(app, request)
    service = language_model(app, wanted.model)
    with_usage = wanted.usage_wanted()
    chat = chat_of(wanted, extra, service)
    context = request.context
    context.affinity = affinity(
        wanted.prompt_cache_key, wanted.safety_identifier, wanted.user, metadata=wanted.metadata
    )
    deltas = generate(app, service, "chat", lambda port: port.chat(chat, context), context)
    head = Head(new_id("chatcmpl-"), now(), wanted.model, f"lsbuild-{app.manifest.lsbuild}", context.trail)
    if wanted.stream:
        return sse_response(events(deltas, head, with_usage))
    return json_response(whole(deltas, head))


def read(app: Site, request: Request) -> tuple[ChatRequest, Mapping[str, Any]]:
    """The request and the provider fields in it that the model accepts; ApiError 400 for any other field."""
    try:
        return decode(request, _DECODER), {}
    except ApiError as error:
        if error.code != "unknown_parameter" or error.param is None or "." in error.param:
            raise
        return _read_with_extra(app, request)


def _read_with_extra(app: Site, request: Request) -> tuple[ChatRequest, Mapping[str, Any]]:
    raw = decode(request, _LOOSE)
    model = raw.get("model")
    service = language_model(app, model) if isinstance(model, str) else None
    extra = {name: value for name, value in raw.items() if name not in _KNOWN and value is not None}
    for name in extra:
        if service is None or not takes(service, name):
            raise refused(name, "unknown or unsupported parameter", "unknown_parameter")
    known = {name: value for name, value in raw.items() if name in _KNOWN}
    try:
        return msgspec.convert(known, ChatRequest, str_keys=True), extra
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None


def chat_of(wanted: ChatRequest, extra: Mapping[str, Any], service: Service) -> Chat:
    """The port's value; ApiError 400 for combinations that make no sense."""
    form = wanted.response_format
    return Chat(
        messages=checked(wanted.messages, "image" in service.metadata.get("modalities", ())),
        sampling=wanted.sampling(_max_tokens(wanted), _logprobs(wanted), service.metadata.get("sampling", {})),
        tools=[plain(tool) for tool in wanted.tools or ()],
        tool_choice=_tool_choice(wanted),
        parallel_tool_calls=wanted.parallel_tool_calls is not False,
        response_format=None if form is None or isinstance(form, TextFormat) else plain(form),
        extra=extra,
        stream=bool(wanted.stream),
    )


def _max_tokens(wanted: ChatRequest) -> int | None:
    both = {wanted.max_tokens, wanted.max_completion_tokens} - {None}
    if len(both) > 1:
        raise refused("max_tokens", "differs from max_completion_tokens; send one of them")
    return next(iter(both), None)


def _logprobs(wanted: ChatRequest) -> int | None:
    if wanted.logprobs:
        return wanted.top_logprobs or 0
    if wanted.top_logprobs is not None:
        raise refused("top_logprobs", "only allowed when logprobs is true")
    return None


def _tool_choice(wanted: ChatRequest) -> str:
    names = {tool.function.name for tool in wanted.tools or ()}
    choice = wanted.tool_choice
    if choice is None:
        return "auto" if names else "none"
    if isinstance(choice, NamedTool):
        if choice.function.name not in names:
            raise refused("tool_choice", f"no tool is named {choice.function.name!r}")
        return choice.function.name
    if choice == "required" and not names:
        raise refused("tool_choice", "'required' needs tools")
    return choice
