"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's requests, answered by an Inference port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from lsbuild_runtime.counting import count
from lsbuild_runtime.http import Context, Request, Response, streamed
from lsbuild_runtime.routes.anthropic.answer import TokenCount
from lsbuild_runtime.routes.anthropic.errors import ERRORS
from lsbuild_runtime.routes.anthropic.events import Asked, events, whole
from lsbuild_runtime.routes.anthropic.prompt import chat_of, prompt_of
from lsbuild_runtime.routes.anthropic.request import MessageRequest, Prompt, ThinkingAdaptive
from lsbuild_runtime.routes.sampling import affinity, generate, language_model
from lsbuild_runtime.routes.translation import named
from lsbuild_runtime.routes.wire import decode

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

_CREATE = msgspec.json.Decoder(MessageRequest)
_COUNT = msgspec.json.Decoder(Prompt)


def create(app: Site, request: Request, _: str) -> Response:
    """Answer the messages, streamed or whole."""
    wanted = decode(request, _CREATE)
    service = language_model(app, wanted.model)
    chat = chat_of(wanted, service)
    context = request.context
    context.affinity = affinity(wanted.metadata.user_id if wanted.metadata else None)
    deltas = generate(app, service, "chat", lambda port: port.chat(chat, context), context)
    asked = Asked(wanted.model, tuple(wanted.stop_sequences or ()), isinstance(wanted.thinking, ThinkingAdaptive))
    if wanted.stream:
        return streamed(events(deltas, asked), named, ERRORS, context.request_id)
    return _answer(whole(deltas, asked), context)


def count_tokens(app: Site, request: Request, _: str) -> Response:
    """How many tokens the prompt would be; nothing is generated."""
    wanted = decode(request, _COUNT)
    service = language_model(app, wanted.model)
    chat = prompt_of(wanted, service)
    found = count(app.services.get(service.api, service.name), chat, request.context)
    return _answer(TokenCount(found), request.context)


def _answer(value: Struct, context: Context) -> Response:
    headers = {"content-type": "application/json", **ERRORS.headers(context.request_id)}
    return Response(200, msgspec.json.encode(value), headers)
