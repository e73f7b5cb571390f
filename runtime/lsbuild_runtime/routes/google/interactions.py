"""POST /v1alpha/interactions: Google's requests, answered by an Inference port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lsbuild_runtime.http import Request, Response, streamed
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.routes.google.answer import named
from lsbuild_runtime.routes.google.errors import ERRORS
from lsbuild_runtime.routes.google.events import DONE, Asked, events, whole
from lsbuild_runtime.routes.google.prompt import chat_of
from lsbuild_runtime.routes.google.request import GenerationConfig, InteractionRequest
from lsbuild_runtime.routes.sampling import affinity, generate, language_model
from lsbuild_runtime.routes.wire import decode, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

_DECODER = msgspec.json.Decoder(InteractionRequest)


def create(app: Site, request: Request, _: str) -> Response:
    """Answer an interaction, streamed or whole."""
    wanted = decode(request, _DECODER)
    service = _service(app, wanted)
    chat = chat_of(wanted, service)
    context = request.context
    context.affinity = affinity(None, metadata=wanted.labels)
    deltas = generate(app, service, "chat", lambda port: port.chat(chat, context), context)
    config = wanted.generation_config or GenerationConfig()
    asked = Asked(service.name, wanted.agent, wanted.labels, config.thinking_summaries == "auto")
    if wanted.stream:
        return streamed(events(deltas, asked), named, ERRORS, end=DONE)
    return Response(200, msgspec.json.encode(whole(deltas, asked)))


def _service(app: Site, wanted: InteractionRequest) -> Service:
    if (wanted.model is None) == (wanted.agent is None):
        raise refused("model", "name either a model or an agent", "missing_required_parameter")
    service = language_model(app, wanted.model or wanted.agent or "")
    if wanted.agent is not None and service.api != "agents":
        raise refused("agent", f"{wanted.agent[:100]!r} is no agent; name it as the model")
    return service
