"""GET /v1/vector_stores and POST /v1/vector_stores/{id}/search: what was compiled in, found by meaning and by words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.http import ApiError, Request, Response, json_response
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Hit, SearchMode, VectorIO
from lsbuild_runtime.routes.sampling import Text
from lsbuild_runtime.routes.wire import decode, plain, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

DEEPEST_FILTER = 8
MOST_FILTERS = 64
_LOGICAL = ("and", "or")
_LISTS = ("in", "nin")
_ORDERED = ("gt", "gte", "lt", "lte")


class Filter(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """OpenAI's comparison (``type``, ``key``, ``value``) or compound filter (``type`` and/or, ``filters``)."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"]
    key: str | None = None
    value: str | float | int | bool | list[str | float | int | bool] | None = None
    filters: list[Filter] | None = None


class RankingOptions(Struct, forbid_unknown_fields=True):
    """Hits below ``score_threshold`` are left out. The ranker is the store's own."""

    ranker: Literal["auto", "none"] | None = None
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


class SearchRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's request with Llama Stack's ``search_mode``. Several queries give the best hits of all of them."""

    query: Text | Annotated[list[Text], Meta(min_length=1, max_length=16)]
    filters: Filter | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: Literal[False] | None = None
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


class FileCounts(Struct):
    """Files of a store by state; a compiled store is complete."""

    completed: int
    total: int
    cancelled: int = 0
    failed: int = 0
    in_progress: int = 0


class VectorStoreObject(Struct):
    """A vector store. ``created_at`` is 0: a reproducible build has no time."""

    id: str
    object: str
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: str
    metadata: dict[str, str]
    last_active_at: int | None = None
    expires_after: None = None
    expires_at: None = None


class VectorStoreList(Struct):
    """A page of stores."""

    object: str
    data: list[VectorStoreObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


_DECODER = msgspec.json.Decoder(SearchRequest)


def listing(app: Site, request: Request, _: str) -> Response:
    """The stores by name; ``order``, ``after``, ``before`` and ``limit`` as at OpenAI (order: by name)."""
    query = request.query
    names = sorted(service.name for service in app.services if service.api == "vector_io")
    if _one_of(query, "order", ("asc", "desc"), "asc") == "desc":
        names.reverse()
    if "after" in query:
        names = names[_position(names, query, "after") + 1 :]
    if "before" in query:
        names = names[: _position(names, query, "before")]
    limit = _limit(query)
    data = [describe(app, name) for name in names[:limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return json_response(VectorStoreList("list", data, first, last, len(names) > limit))


def retrieve(app: Site, _: Request, name: str) -> Response:
    """One store."""
    return json_response(describe(app, name))


def describe(app: Site, name: str) -> VectorStoreObject:
    """The counts of a store, which opens it."""
    service = store_named(app, name)
    port: VectorIO = app.services.get(service.api, service.name)
    info = port.info()
    return VectorStoreObject(
        id=name,
        object="vector_store",
        created_at=0,
        name=name,
        usage_bytes=info.bytes,
        file_counts=FileCounts(completed=info.files, total=info.files),
        status="completed",
        metadata={
            "provider_id": service.provider,
            "embedding_model": info.embedding,
            "embedding_dimension": str(info.dimensions),
            "chunks": str(info.chunks),
        },
    )


def search(app: Site, request: Request, name: str) -> Response:
    """Search a store."""
    service = store_named(app, name)
    wanted = decode(request, _DECODER)
    filters = checked_filter(wanted.filters)
    queries = [wanted.query] if isinstance(wanted.query, str) else wanted.query
    limit = wanted.max_num_results or 10
    threshold = wanted.ranking_options.score_threshold if wanted.ranking_options else None
    context = request.context
    best: dict[str, Hit] = {}
    with context.watch.span(f"search {name}", **{"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": name}):
        port: VectorIO = app.services.get(service.api, service.name)
        for query in queries:
            context.check()
            for hit in port.search(
                query, context, limit=limit, mode=wanted.search_mode, filters=filters, threshold=threshold or 0.0
            ):
                if hit.chunk_id not in best or hit.score > best[hit.chunk_id].score:
                    best[hit.chunk_id] = hit
    hits = sorted(best.values(), key=lambda hit: -hit.score)[:limit]
    page = SearchPage("vector_store.search_results.page", queries, [_result(hit) for hit in hits], False, None)
    return json_response(page)


def store_named(app: Site, name: str) -> Service:
    """The service of a store; ApiError 404 when there is none."""
    service = app.services.find(("vector_io",), name)
    if service is None:
        raise ApiError(
            404, f"no vector store {name[:100]!r}; GET /v1/vector_stores lists them", code="vector_store_not_found"
        )
    return service


def checked_filter(given: Filter | None) -> Mapping[str, Any] | None:
    """The filter as OpenAI's JSON object; ApiError 400 names the part that makes no sense."""
    if given is None:
        return None
    _check_filter(given, "filters", 1, [0])
    checked: Mapping[str, Any] = plain(given)
    return checked


def _check_filter(given: Filter, place: str, depth: int, count: list[int]) -> None:
    count[0] += 1
    if depth > DEEPEST_FILTER or count[0] > MOST_FILTERS:
        raise refused("filters", f"at most {MOST_FILTERS} filters, nested at most {DEEPEST_FILTER} deep")
    if given.type in _LOGICAL:
        if not given.filters or given.key is not None or given.value is not None:
            raise refused(f"{place}.filters", f"{given.type!r} takes a non-empty list of filters, no key and no value")
        for index, inner in enumerate(given.filters):
            _check_filter(inner, f"{place}.filters[{index}]", depth + 1, count)
        return
    if given.filters is not None:
        raise refused(f"{place}.filters", f"{given.type!r} takes a key and a value")
    if not given.key:
        raise refused(f"{place}.key", f"{given.type!r} needs the key of an attribute", "missing_required_parameter")
    if given.value is None or isinstance(given.value, list) != (given.type in _LISTS):
        what = "a list of values" if given.type in _LISTS else "one value: a text, a number or a boolean"
        raise refused(f"{place}.value", f"{given.type!r} needs {what}")
    if given.type in _ORDERED and isinstance(given.value, bool):
        raise refused(f"{place}.value", f"{given.type!r} compares numbers or texts")


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


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", "20")
    if not (text.isascii() and text.isdigit()) or len(text) > 3 or not 1 <= int(text) <= 100:
        raise refused("limit", f"expected a whole number from 1 to 100, got {text[:20]!r}")
    return int(text)


def _one_of(query: Mapping[str, str], name: str, values: tuple[str, ...], default: str) -> str:
    value = query.get(name, default)
    if value not in values:
        raise refused(name, f"expected one of {', '.join(values)}, got {value[:20]!r}")
    return value


def _position(names: list[str], query: Mapping[str, str], parameter: str) -> int:
    if query[parameter] not in names:
        raise refused(parameter, f"no vector store {query[parameter][:100]!r}")
    return names.index(query[parameter])
