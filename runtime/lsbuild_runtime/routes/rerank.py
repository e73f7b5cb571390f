"""POST /v1/rerank and Llama Stack's /v1alpha/inference/rerank: texts in the order of how well they fit a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.http import ApiError, Request, Response, json_response
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.ports import Reranker
from lsbuild_runtime.routes.sampling import Text, model_not_found
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.services import MODEL_APIS

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

MOST_DOCUMENTS = 1000
"""Texts of one request."""


class Document(Struct, forbid_unknown_fields=True):
    """A text as an object."""

    text: str


class RerankRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The request that Cohere, Jina and vLLM share. A document is cut to what the model reads; the query never is."""

    model: str
    query: Text
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=MOST_DOCUMENTS)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    user: str | None = None


class RerankResult(Struct, omit_defaults=True):
    """One document: its place in the request, and its score in 0..1."""

    index: int
    relevance_score: float
    document: Document | msgspec.UnsetType = msgspec.UNSET


class RerankUsage(Struct):
    """Tokens read: the query counts once for each document."""

    prompt_tokens: int
    total_tokens: int


class RerankBody(Struct):
    """The answer, best first."""

    id: str
    object: str
    model: str
    results: list[RerankResult]
    usage: RerankUsage


class TextPart(Struct, forbid_unknown_fields=True):
    """Llama Stack's content part; images are not read."""

    text: str
    type: Literal["text"] = "text"


class ItemsRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Llama Stack's request."""

    model: str
    query: str | TextPart
    items: Annotated[list[str | TextPart], Meta(min_length=1, max_length=MOST_DOCUMENTS)]
    max_num_results: Annotated[int, Meta(ge=1)] | None = None


class RerankData(Struct):
    """Llama Stack's result."""

    index: int
    relevance_score: float


class RerankResponse(Struct):
    """Llama Stack's answer, best first."""

    data: list[RerankData]


_DECODER = msgspec.json.Decoder(RerankRequest)
_ITEMS = msgspec.json.Decoder(ItemsRequest)


def create(app: Site, request: Request, _: str) -> Response:
    """Rank documents."""
    wanted = decode(request, _DECODER)
    texts = _texts(wanted.documents)
    scored, tokens = _ranked(app, request, wanted.model, wanted.query, texts)
    results = [
        RerankResult(place, score, Document(texts[place]) if wanted.return_documents else msgspec.UNSET)
        for place, score in scored[: wanted.top_n]
    ]
    return json_response(RerankBody(new_id("rerank-"), "list", wanted.model, results, RerankUsage(tokens, tokens)))


def items(app: Site, request: Request, _: str) -> Response:
    """The same in Llama Stack's words."""
    wanted = decode(request, _ITEMS)
    query = wanted.query if isinstance(wanted.query, str) else wanted.query.text
    scored, _tokens = _ranked(app, request, wanted.model, query, _texts(wanted.items))
    return json_response(
        RerankResponse([RerankData(place, score) for place, score in scored[: wanted.max_num_results]])
    )


def _texts(given: Sequence[str | Document | TextPart]) -> list[str]:
    return [one if isinstance(one, str) else one.text for one in given]


def _ranked(
    app: Site, request: Request, model: str, query: str, texts: list[str]
) -> tuple[list[tuple[int, float]], int]:
    """(place, score) best first, equal scores in the order of the request; and the tokens read."""
    service = app.services.find(("rerank", *MODEL_APIS), model)
    if service is None:
        raise model_not_found(model)
    if service.api != "rerank":
        raise refused("model", f"{model!r} scores no passages; name a model of type rerank (GET /v1/models)")
    if not query.strip():
        raise ApiError(400, "query: an empty text fits nothing", param="query", code="invalid_value")
    port: Reranker = app.services.get("rerank", service.name)
    found = port.score(query, texts, request.context)
    return sorted(enumerate(found.values), key=lambda scored: -scored[1]), found.tokens
