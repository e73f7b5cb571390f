"""POST /v1/embeddings: texts or token ids to vectors."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.http import Request, Response, json_response
from lsbuild_runtime.ports import Embeddings
from lsbuild_runtime.routes.sampling import affinity, model_not_found, served
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.services import MODEL_APIS

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

MOST_INPUTS = 2048
"""OpenAI's own limit for one request."""


class EmbeddingsRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's request. ``input`` is a text, texts, token ids, or lists of token ids; null is refused, as upstream."""

    model: str
    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=MOST_INPUTS)]
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | msgspec.UnsetType = msgspec.UNSET
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None


class EmbeddingObject(Struct):
    """One vector: numbers, or base64 of little-endian float32."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Struct):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct):
    """The answer; vectors in the order of the input."""

    object: str
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage
    metadata: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


_GENERATES = "generates text; use POST /v1/chat/completions"
_DECODER = msgspec.json.Decoder(EmbeddingsRequest)


def create(app: Site, request: Request, _: str) -> Response:
    """Embed every input."""
    wanted = decode(request, _DECODER)
    service = app.services.find(("embeddings", *MODEL_APIS), wanted.model)
    if service is None:
        raise model_not_found(wanted.model)
    if service.api != "embeddings":
        what = "scores passages; use POST /v1/rerank" if service.api == "rerank" else _GENERATES
        raise refused("model", f"{wanted.model!r} {what}")
    inputs = inputs_of(wanted.input)
    dimensions = None if wanted.dimensions is msgspec.UNSET else wanted.dimensions
    context = request.context
    context.affinity = affinity(wanted.user)
    with context.watch.span(
        f"embeddings {service.name}",
        **{"gen_ai.operation.name": "embeddings", "gen_ai.request.model": service.name},
    ) as span:
        port: Embeddings = app.services.get(service.api, service.name)
        found = port.embed(inputs, context, dimensions)
        span.set(**{"gen_ai.usage.input_tokens": found.tokens})
    base64 = wanted.encoding_format == "base64"
    return json_response(
        EmbeddingList(
            "list",
            [
                EmbeddingObject("embedding", index, _base64(vector) if base64 else _floats(vector))
                for index, vector in enumerate(found.vectors)
            ],
            wanted.model,
            EmbeddingUsage(found.tokens, found.tokens),
            served(context.trail),
        )
    )


def inputs_of(given: str | Sequence[str | int | list[int]]) -> list[str] | list[list[int]]:
    """The inputs: a list of integers is one input of tokens; ApiError 400 for mixed or empty ones."""
    if isinstance(given, str):
        given = [given]
    texts = [item for item in given if isinstance(item, str)]
    tokens = [item for item in given if isinstance(item, int)]
    lists = [item for item in given if isinstance(item, list)]
    if len(given) not in (len(texts), len(tokens), len(lists)):
        raise refused("input", "expected a text, texts, token ids, or lists of token ids; not mixed")
    for place, item in enumerate(given):
        if item in ("", []):
            raise refused(f"input[{place}]" if len(given) > 1 else "input", "an input must not be empty")
    for row in [tokens, *lists]:
        if any(token < 0 or token >= 2**31 for token in row):
            raise refused("input", "token ids lie between 0 and 2147483647")
    return texts or lists or [tokens]


def _floats(vector: bytes) -> list[float]:
    return list(memoryview(vector).cast("f"))


def _base64(vector: bytes) -> str:
    return binascii.b2a_base64(vector, newline=False).decode("ascii")
