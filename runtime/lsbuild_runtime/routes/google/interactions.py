"""/v1alpha/interactions: Google's requests, answered by an Inference port and kept where the server keeps state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lsbuild_runtime.http import DONE, ApiError, Request, Response, streamed
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat
from lsbuild_runtime.routes.google.answer import Interaction
from lsbuild_runtime.routes.google.errors import ERRORS
from lsbuild_runtime.routes.google.events import Asked, Keep, events, kept, whole
from lsbuild_runtime.routes.google.kept import Interactions
from lsbuild_runtime.routes.google.prompt import chat_of, said
from lsbuild_runtime.routes.google.request import GenerationConfig, InteractionRequest
from lsbuild_runtime.routes.messages import AnyMessage
from lsbuild_runtime.routes.paging import one_of
from lsbuild_runtime.routes.sampling import affinity, generate, language_model
from lsbuild_runtime.routes.translation import named
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.services import NO_STATE

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

_DECODER = msgspec.json.Decoder(InteractionRequest)
_MESSAGES = msgspec.json.Decoder(list[AnyMessage])


def create(app: Site, request: Request, _: str) -> Response:
    """Answer an interaction, streamed or whole."""
    wanted = decode(request, _DECODER)
    service = _service(app, wanted)
    chat = chat_of(wanted, service, _earlier(app, wanted.previous_interaction_id))
    keep = _keeping(app, wanted, chat)
    context = request.context
    context.affinity = affinity(None, metadata=wanted.labels)
    deltas = generate(app, service, "chat", lambda port: port.chat(chat, context), context)
    config = wanted.generation_config or GenerationConfig()
    asked = Asked(
        model=service.name,
        agent=wanted.agent,
        labels=wanted.labels,
        thoughts=config.thinking_summaries == "auto",
        previous=wanted.previous_interaction_id,
    )
    if wanted.stream:
        return streamed(kept(events(deltas, asked), keep), named, ERRORS, end=DONE)
    return Response(200, msgspec.json.encode(whole(deltas, asked, keep)))


def retrieve(app: Site, request: Request, interaction_id: str) -> Response:
    """An interaction that was kept; whole, for its stream is over."""
    one_of(request.query, "stream", ("false",), "false")
    return Response(200, app.kept(Interactions).answer(interaction_id))


def delete(app: Site, _: Request, interaction_id: str) -> Response:
    """Forget an interaction; those that went on from it have their own copy of what was said."""
    app.kept(Interactions).delete(interaction_id)
    return Response(200, b"{}")


def _earlier(app: Site, interaction_id: str | None) -> list[AnyMessage]:
    """What was said before."""
    if interaction_id is None:
        return []
    try:
        return _MESSAGES.decode(app.kept(Interactions).messages(interaction_id))
    except ApiError as error:
        if error.status == 404:
            error.param = "previous_interaction_id"
        raise


def _keeping(app: Site, wanted: InteractionRequest, chat: Chat) -> Keep:
    """How the answer is kept: as asked, and without a word where the server keeps no state and nobody asks for it."""
    if wanted.store is False:
        return lambda _: None
    if wanted.store:
        app.kept(Interactions).ready()
    before = [message for message in chat.messages if message["role"] != "system"]

    def keep(answer: Interaction) -> None:
        try:
            app.kept(Interactions).add(answer.id, [*before, said(answer.steps or ())], msgspec.json.encode(answer))
        except ApiError as error:
            if wanted.store or error.code != NO_STATE:  # an id that is told has to lead somewhere
                raise

    return keep


def _service(app: Site, wanted: InteractionRequest) -> Service:
    if (wanted.model is None) == (wanted.agent is None):
        raise refused("model", "name either a model or an agent", "missing_required_parameter")
    service = language_model(app, wanted.model or wanted.agent or "")
    if wanted.agent is not None and service.api != "agents":
        raise refused("agent", f"{wanted.agent[:100]!r} is no agent; name it as the model")
    return service
