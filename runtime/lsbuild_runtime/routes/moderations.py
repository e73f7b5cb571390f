"""POST /v1/moderations: texts are looked at by a shield, and answered in OpenAI's form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.http import Request, Response, json_response
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.routes.messages import ImagePart, TextPart
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.safety import Safety, Verdict
from lsbuild_runtime.safety import shields as safety

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

MOST_INPUTS = 1000
"""Texts of one request."""


class ModerationRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's request: one text, several, or one in parts. ``model`` names a shield."""

    input: str | Annotated[list[str | TextPart | ImagePart], Meta(min_length=1, max_length=MOST_INPUTS)]
    model: str | None = None


class ModerationResult(Struct):
    """What was found in one text. ``user_message`` and ``metadata`` are Llama Stack's."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    user_message: str | None
    metadata: dict[str, Any]


class ModerationObject(Struct):
    """The answer, one result for each text."""

    id: str
    model: str
    results: list[ModerationResult]


_DECODER = msgspec.json.Decoder(ModerationRequest)


def create(app: Site, request: Request, _: str) -> Response:
    """Look at texts as input."""
    wanted = decode(request, _DECODER)
    texts = _texts(wanted.input)
    shield = safety.named(app.services, wanted.model, "model")
    port: Safety = app.services.get(safety.API, shield.name)
    results = [_result(safety.look(app.services, shield, text, "input", request.context), port) for text in texts]
    return json_response(ModerationObject(new_id("modr-"), shield.name, results))


def _texts(given: str | list[str | TextPart | ImagePart]) -> list[str]:
    if isinstance(given, str):
        return [given]
    parts: list[str] = []
    plain: list[str] = []
    for place, one in enumerate(given):
        if isinstance(one, ImagePart):
            raise refused(f"input[{place}].type", "shields look at text only")
        (plain if isinstance(one, str) else parts).append(one if isinstance(one, str) else one.text)
    if parts and plain:
        raise refused("input", "send texts or parts of one text, not both")
    return plain or ["\n".join(parts)]


def _result(verdict: Verdict, port: Safety) -> ModerationResult:
    categories = port.categories()
    flags = safety.flags(verdict.findings, categories)
    gravest = safety.worst(verdict.findings)
    return ModerationResult(
        flagged=gravest is not None,
        categories=flags,
        category_scores=safety.scores(verdict, flags, categories),
        category_applied_input_types={name: ["text"] for name in flags},
        user_message=gravest.message if gravest is not None else None,
        metadata={
            "findings": [safety.report(finding) for finding in verdict.findings],
            "llama_guard": safety.llama_guard(verdict.findings, categories),
        },
    )
