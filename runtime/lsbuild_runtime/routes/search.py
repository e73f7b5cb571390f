"""POST /v1/vector_stores/{id}/search: passages found by meaning, by words, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime import retrieve
from lsbuild_runtime.http import Context, Request, Response, json_response
from lsbuild_runtime.ports import Fusion, Hit, SearchMode
from lsbuild_runtime.retrieve import Ranking, models_around
from lsbuild_runtime.routes.filters import Filter, checked_filter
from lsbuild_runtime.routes.sampling import Text
from lsbuild_runtime.routes.wire import decode, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site
    from lsbuild_runtime.stores import Store

RRF_IMPACT = 60.0
"""The constant of reciprocal rank fusion in every provider."""
_OWN_RANKERS = ("auto", "none", "rrf", "neural")
_RERANKS = {"none": False, "rrf": False, "weighted": False, "neural": True}
"""Rankers that say whether a model has the last word; the others leave it to the store."""
_Share = Annotated[float, Meta(ge=0, le=1)]
_Weight = Annotated[float, Meta(ge=0, le=1e6)]


class HybridSearch(Struct, forbid_unknown_fields=True):
    """OpenAI's weights of meaning and of words in the fusion of both rankings."""

    embedding_weight: _Weight
    text_weight: _Weight


class Ranker(Struct, forbid_unknown_fields=True):
    """Llama Stack's ranker as an object."""

    type: Literal["rrf", "weighted"]
    impact_factor: float | None = None
    alpha: _Share | None = None


class Weights(Struct, forbid_unknown_fields=True):
    """Llama Stack's weights."""

    vector: _Weight = 0.0
    keyword: _Weight = 0.0


class RankingOptions(Struct, forbid_unknown_fields=True):
    """OpenAI's options, then Llama Stack's. Hits below ``score_threshold`` are left out.

    ``rrf`` joins the two rankings by places and ``weighted`` by scores; ``alpha`` is the weight of meaning, words have the
    rest. OpenAI's ``hybrid_search`` weighs places, ``weights`` what the ranker joins.
    """

    ranker: str | Ranker | None = None
    score_threshold: _Share | None = None
    hybrid_search: HybridSearch | None = None
    alpha: _Share | None = None
    impact_factor: float | None = None
    weights: Weights | None = None


class SearchRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's request with Llama Stack's ``search_mode``. Several queries give the best hits of all of them."""

    query: Text | Annotated[list[Text], Meta(min_length=1, max_length=16)]
    filters: Filter | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = None
    search_mode: SearchMode | None = None


class TextContent(Struct):
    """The text of a hit."""

    type: str
    text: str


class SearchResult(Struct):
    """One hit. ``attributes`` also says where in the file it stands: heading, lines and character offsets."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Any]
    content: list[TextContent]


class SearchPage(Struct):
    """All hits, best first; there is always one page."""

    object: str
    search_query: list[str]
    data: list[SearchResult]
    has_more: bool
    next_page: str | None


_DECODER = msgspec.json.Decoder(SearchRequest)


def search(app: Site, request: Request, store_id: str) -> Response:
    """Search a store."""
    store = app.stores.find(store_id)
    wanted = decode(request, _DECODER)
    filters = checked_filter(wanted.filters)
    ranking = ranked(wanted.ranking_options, wanted.search_mode, "ranking_options")
    queries = [wanted.query] if isinstance(wanted.query, str) else wanted.query
    if wanted.rewrite_query:
        queries = rewritten(app, store, queries, request.context)
    hits = find(app, store, queries, request.context, wanted.max_num_results or 10, ranking, filters)
    page = SearchPage("vector_store.search_results.page", queries, [_result(hit) for hit in hits], False, None)
    return json_response(page)


def find(
    app: Site,
    store: Store,
    queries: Sequence[str],
    context: Context,
    limit: int,
    ranking: Ranking,
    filters: Any = None,
    at: str = "ranking_options",
) -> list[Hit]:
    """What `retrieve.search` finds in a store, with the reranker that the store names.

    ApiError 400 names ``at`` when the ranking needs a reranker and the store names none.
    """
    names = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": store.id}
    with context.watch.span(f"search {store.id}", **names):
        port = app.stores.port(store)
        reranker = None if ranking.rerank is False else models_around(store.service, app.services).reranker()
        if ranking.rerank and reranker is None:
            raise refused(f"{at}.ranker", _unnamed(store, "rerank", "ranks again"))
        hits = retrieve.search(port, queries, context, limit, ranking, filters, reranker)
        app.stores.touch(store)
    return hits


def ranked(options: RankingOptions | None, mode: SearchMode | None, at: str) -> Ranking:
    """Options as a store takes them; ApiError 400 names what no store can do."""
    if options is None:
        return Ranking(mode)
    fusion = _fusion(options, at)
    named = _named(options.ranker)
    weighs = options.hybrid_search is not None or options.weights is not None or named == "weighted"
    if weighs and mode not in (None, "hybrid"):
        raise refused("search_mode", f"weights belong to a hybrid search; this one is {mode!r}")
    if fusion is not None and not (fusion.vector or fusion.keyword):
        raise refused(at, "one of the two weights must be above 0")
    return Ranking("hybrid" if weighs else mode, fusion, options.score_threshold or 0.0, _RERANKS.get(named or "auto"))


def rewritten(app: Site, store: Store, queries: list[str], context: Context) -> list[str]:
    """The queries as the store's model puts them, all together; ApiError 400 when the store names no model for it."""
    around = models_around(store.service, app.services)
    if not around.rewrite:
        raise refused("rewrite_query", _unnamed(store, "rewrite", "rewrites questions"))
    question = "\n".join(queries)
    found = around.queries(question, context)
    return queries if found == (question,) else list(found)


def _unnamed(store: Store, key: str, what: str) -> str:
    where = f"vector_stores.{store.service.name}.{key}"
    return f"store {store.id[:60]!r} has no model that {what}; name one at {where} in the spec and build again"


def _fusion(options: RankingOptions, at: str) -> Fusion | None:
    """None for the store's own. At most one way to say the weights."""
    given = options.ranker
    ranker = given if isinstance(given, Ranker) else _ranker(given, options, at)
    if options.hybrid_search is not None and (options.weights is not None or ranker.type == "weighted"):
        raise refused(at, "give one of hybrid_search, weights and the weighted ranker")
    if options.weights is not None and ranker.alpha is not None:
        raise refused(at, "give one of weights and alpha")
    if ranker.impact_factor not in (None, RRF_IMPACT):
        raise refused(f"{at}.impact_factor", f"the rankings are fused with {RRF_IMPACT:.0f}; leave it out")
    if ranker.type == "rrf" and ranker.alpha is not None:
        raise refused(f"{at}.alpha", "belongs to the ranker 'weighted'")
    if options.hybrid_search is not None:
        return Fusion("rrf", options.hybrid_search.embedding_weight, options.hybrid_search.text_weight)
    if options.weights is not None:
        return Fusion(ranker.type, options.weights.vector, options.weights.keyword)
    if ranker.type == "weighted":
        alpha = 0.5 if ranker.alpha is None else ranker.alpha
        return Fusion("weighted", alpha, 1.0 - alpha)
    return Fusion() if _named(given) == "rrf" else None


def _named(ranker: str | Ranker | None) -> str | None:
    return ranker.type if isinstance(ranker, Ranker) else ranker


def _ranker(name: str | None, options: RankingOptions, at: str) -> Ranker:
    """OpenAI's names of rankers (dated ones too) leave it to the store."""
    if name == "weighted":
        return Ranker("weighted", options.impact_factor, options.alpha)
    if name is None or name in _OWN_RANKERS or name.startswith(("default-", "default_")):
        return Ranker("rrf", options.impact_factor, options.alpha)
    known = ", ".join([*_OWN_RANKERS, "weighted", "default-2024-11-15"])
    raise refused(f"{at}.ranker", f"{name[:50]!r} needs a model that this artifact has not; known are {known}")


def _result(hit: Hit) -> SearchResult:
    attributes = {
        "heading": hit.heading,
        "line_start": hit.line_start,
        "line_end": hit.line_end,
        "start": hit.start,
        "end": hit.end,
        **hit.attributes,
    }
    return SearchResult(hit.file_id, hit.filename, hit.score, attributes, [TextContent("text", hit.text)])
