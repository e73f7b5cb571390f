"""GET /v1/shields and POST /v1/safety/run-shield: Llama Stack's way to name a shield and to ask it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.http import Request, Response, json_response
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.routes.messages import AnyMessage, checked
from lsbuild_runtime.routes.providers import provider_id
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.safety import Action, Safety
from lsbuild_runtime.safety import shields as safety

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

_LEVELS: Mapping[Action, Literal["info", "warn", "error"]] = {"warn": "info", "redact": "warn", "block": "error"}


class ShieldObject(Struct, kw_only=True):
    """Llama Stack's description of a shield."""

    identifier: str
    provider_resource_id: str
    provider_id: str
    type: Literal["shield"] = "shield"
    params: dict[str, Any]


class ShieldList(Struct):
    """All shields."""

    data: list[ShieldObject]


class RunShieldRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Llama Stack's request. Older clients send ``params``, which have to be empty: a shield is set up in the spec."""

    shield_id: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[AnyMessage], Meta(min_length=1)]
    params: dict[str, Any] | None = None


class SafetyViolation(Struct):
    """The gravest finding, and all of them in ``metadata``."""

    violation_level: Literal["info", "warn", "error"]
    user_message: str | None
    metadata: dict[str, Any]


class RunShieldResponse(Struct):
    """Llama Stack's answer; no violation when nothing was found."""

    violation: SafetyViolation | None


_DECODER = msgspec.json.Decoder(RunShieldRequest)


def listing(app: Site, _request: Request, _: str) -> Response:
    """All shields, in the order of the spec."""
    return json_response(ShieldList([_object(shield) for shield in safety.shields(app.services)]))


def retrieve(app: Site, _request: Request, name: str) -> Response:
    """One shield."""
    return json_response(_object(safety.named(app.services, name, "identifier")))


def run(app: Site, request: Request, _: str) -> Response:
    """Look at all texts of a conversation."""
    wanted = decode(request, _DECODER)
    if wanted.params:
        raise refused("params", "a shield takes no settings here; set it up in the spec")
    shield = safety.named(app.services, wanted.shield_id, "shield_id")
    port: Safety = app.services.get(safety.API, shield.name)
    looked = [
        (piece, safety.look(app.services, shield, piece.text, piece.where, request.context))
        for piece in safety.pieces(checked(wanted.messages, images=False))
    ]
    found = [finding for _, verdict in looked for finding in verdict.findings]
    gravest = safety.worst(found)
    if gravest is None:
        return json_response(RunShieldResponse(None))
    metadata = {
        "violation_type": gravest.category,
        "categories": [name for name, flag in safety.flags(found, port.categories()).items() if flag],
        "llama_guard": safety.llama_guard(found, port.categories()),
        "findings": [safety.report(finding, piece) for piece, verdict in looked for finding in verdict.findings],
        "redacted": [
            {"message": piece.message, "where": piece.where, "text": verdict.text}
            for piece, verdict in looked
            if verdict.blocked is None and verdict.text != piece.text
        ],
    }
    return json_response(RunShieldResponse(SafetyViolation(_LEVELS[gravest.action], gravest.message, metadata)))


def _object(shield: Service) -> ShieldObject:
    return ShieldObject(
        identifier=shield.name,
        provider_resource_id=str(shield.metadata.get("provider_resource_id", shield.name)),
        provider_id=provider_id(shield.provider),
        params=dict(shield.metadata),
    )
