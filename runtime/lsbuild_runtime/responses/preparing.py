"""From a request to the work behind it: the model, the conversation so far and the chat; it runs and keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Sampling
from lsbuild_runtime.prompts import render
from lsbuild_runtime.responses.answer import ConversationOf, ResponseObject
from lsbuild_runtime.responses.context import Keep, context_items, own_items
from lsbuild_runtime.responses.items import (
    Item,
    McpListTools,
    decoded,
    encoded,
    item_id,
)
from lsbuild_runtime.responses.messages import Told, plain_name, told
from lsbuild_runtime.responses.records import Kept
from lsbuild_runtime.responses.request import (
    LOGPROBS,
    Asked,
    JsonObject,
    JsonSchema,
    ResponseRequest,
    included,
)
from lsbuild_runtime.responses.sheet import Shape
from lsbuild_runtime.responses.tool_params import FunctionTool
from lsbuild_runtime.routes.sampling import affinity, language_model, takes
from lsbuild_runtime.routes.wire import plain, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site


class Work(Struct, kw_only=True):
    """What a response is made from. ``items`` are all that the model is told of, ``input`` those of this request."""

    service: Service
    wanted: ResponseRequest
    chat: Chat
    told: Told
    items: list[Item]
    input: list[Item]
    response: ResponseObject
    shape: Shape
    prompted: str = ""
    affinity: str = ""

    @property
    def listed(self) -> frozenset[str]:
        """The servers whose tools are in the conversation already."""
        return frozenset(item.server_label for item in self.items if isinstance(item, McpListTools) and not item.error)


class Begun(Struct, frozen=True, kw_only=True):
    """What it takes to begin a response again (Kept.run): the request as it came, all items that it reads, and the text of its
    prompt, which may be changed meanwhile."""

    request: dict[str, Any]
    items: msgspec.Raw
    input: int
    """How many of them, at the end, are the request's own."""
    prompted: str = ""


def prepared(app: Site, wanted: ResponseRequest, records: Keep, now: int) -> Work:
    """The work for a new request; ApiError 400 or 404 for what makes no sense or is not there."""
    prompted = render(app, wanted.prompt) if wanted.prompt else ""
    own = own_items(wanted, required=wanted.prompt is None)
    items, root = context_items(wanted, own, records)
    work = _work(app, wanted, prompted, items, len(own), item_id("resp"), now)
    work.affinity = affinity(
        wanted.prompt_cache_key, wanted.conversation_id or root, wanted.safety_identifier, wanted.user,
        metadata=wanted.metadata,
    )  # fmt: skip
    return work


def again(app: Site, wanted: ResponseRequest, begun: Begun, kept: Kept) -> Work:
    """The work of a response that was begun earlier, with what it had then."""
    items = decoded(bytes(begun.items))
    work = _work(app, wanted, begun.prompted, items, begun.input, kept.id, kept.created_at)
    work.response.background = kept.background
    work.affinity = affinity(wanted.prompt_cache_key, wanted.conversation_id, wanted.user, metadata=wanted.metadata)
    return work


def begun_of(work: Work, raw: dict[str, Any]) -> bytes:
    """What to keep of the work so that it can begin again."""
    items = msgspec.Raw(encoded(work.items))
    return msgspec.json.encode(Begun(request=raw, items=items, input=len(work.input), prompted=work.prompted))


def _work(
    app: Site, wanted: ResponseRequest, prompted: str, items: list[Item], own: int, response_id: str, created_at: int
) -> Work:
    """``own`` of the items, at the end, are the request's."""
    if wanted.model is None:
        raise refused("model", "this parameter is required", "missing_required_parameter")
    service = language_model(app, wanted.model)
    images = "image" in service.metadata.get("modalities", ())
    said = told(items, images, plain_name, own)
    logprobs = wanted.top_logprobs is not None or LOGPROBS in (wanted.include or ())
    sampling = _sampling(wanted, service, logprobs)
    chat = Chat(
        messages=[*_instructions(prompted, wanted.instructions), *said.messages],
        sampling=sampling,
        tools=[_function(tool) for tool in wanted.tools or () if isinstance(tool, FunctionTool)],
        parallel_tool_calls=wanted.parallel_tool_calls is not False,
        response_format=_format(wanted),
        extra=_extra(wanted, service),
        stream=bool(wanted.stream),
    )
    shape = Shape(
        include=included(wanted.include),
        logprobs=logprobs,
        summary=_summary(wanted),
        requests=said.requests,
    )
    return Work(
        service=service, wanted=wanted, chat=chat, told=said, items=items, input=items[len(items) - own :], shape=shape,
        prompted=prompted,
        response=_response(wanted, sampling, response_id, created_at),
    )  # fmt: skip


def _instructions(*texts: str | None) -> list[dict[str, Any]]:
    text = "\n\n".join(filter(None, texts))
    return [{"role": "system", "content": text}] if text else []


def _function(tool: FunctionTool) -> dict[str, Any]:
    known = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    return {
        "type": "function",
        "function": {"name": tool.name, **{name: value for name, value in known.items() if value is not None}},
    }


def _sampling(wanted: ResponseRequest, service: Service, logprobs: bool) -> Sampling:
    usual = service.metadata.get("sampling", {})
    first = Sampling(
        temperature=usual.get("temperature", 1.0), top_p=usual.get("top_p", 1.0), top_k=usual.get("top_k", 0)
    )
    return Sampling(
        temperature=first.temperature if wanted.temperature is None else wanted.temperature,
        top_p=first.top_p if wanted.top_p is None else wanted.top_p,
        top_k=first.top_k,
        logprobs=(wanted.top_logprobs or 0) if logprobs else None,
        max_tokens=wanted.max_output_tokens,
        frequency_penalty=wanted.frequency_penalty or 0.0,
        presence_penalty=wanted.presence_penalty or 0.0,
    )


def _format(wanted: Asked) -> Mapping[str, Any] | None:
    form = wanted.text.format if wanted.text else None
    if isinstance(form, JsonObject):
        return {"type": "json_object"}
    if isinstance(form, JsonSchema):
        given = {"schema": form.schema, "description": form.description, "strict": form.strict}
        schema = {"name": form.name, **{name: value for name, value in given.items() if value is not None}}
        return {"type": "json_schema", "json_schema": schema}
    return None


def _extra(wanted: Asked, service: Service) -> dict[str, Any]:
    """Fields for models that honour them; ApiError 400 names one that this model does not."""
    effort = wanted.reasoning.effort if wanted.reasoning else None
    verbosity = wanted.text.verbosity if wanted.text else None
    extra = {}
    for value, field, param in (
        (effort, "reasoning_effort", "reasoning.effort"),
        (verbosity, "verbosity", "text.verbosity"),
    ):
        if value is None or (field == "verbosity" and value == "medium"):  # what every model does anyway
            continue
        if not takes(service, field):
            raise refused(param, f"the model {service.name!r} does not take it", "unsupported_parameter")
        extra[field] = value
    return extra


def _summary(wanted: Asked) -> bool:
    asked = wanted.reasoning
    return asked is not None and (asked.summary is not None or asked.generate_summary is not None)


def _response(wanted: ResponseRequest, sampling: Sampling, response_id: str, created_at: int) -> ResponseObject:
    text = plain(wanted.text) if wanted.text else {}
    return ResponseObject(
        id=response_id,
        created_at=created_at,
        background=bool(wanted.background),
        instructions=wanted.instructions,
        max_output_tokens=wanted.max_output_tokens,
        max_tool_calls=wanted.max_tool_calls,
        model=wanted.model or "",
        parallel_tool_calls=wanted.parallel_tool_calls is not False,
        previous_response_id=wanted.previous_response_id,
        conversation=ConversationOf(wanted.conversation_id) if wanted.conversation_id else None,
        prompt=plain(wanted.prompt) if wanted.prompt else None,
        prompt_cache_key=wanted.prompt_cache_key,
        reasoning=plain(wanted.reasoning) if wanted.reasoning else None,
        safety_identifier=wanted.safety_identifier,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_logprobs=wanted.top_logprobs,
        frequency_penalty=wanted.frequency_penalty,
        presence_penalty=wanted.presence_penalty,
        text={**text, "format": text.get("format", {"type": "text"})},
        tool_choice="auto" if wanted.tool_choice is None else plain(wanted.tool_choice),
        tools=[_tool_shown(plain(tool)) for tool in wanted.tools or ()],
        truncation=wanted.truncation or "disabled",
        user=wanted.user,
        metadata=wanted.metadata or {},
    )


def _tool_shown(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as OpenAI shows it again: without what is secret, with what its clients read."""
    if tool["type"] == "function":
        return {"description": None, "parameters": None, "strict": True, **tool}
    if tool["type"] == "mcp":
        return {name: value for name, value in tool.items() if name not in ("authorization", "headers")}
    return tool
