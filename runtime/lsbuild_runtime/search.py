"""What every vector store does with a search before it looks: check what was asked, and embed the query."""

from __future__ import annotations

from typing import get_args

import msgspec

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Embeddings, Fusion, Host, SearchMode

MAX_LIMIT = 1000


def fusion_of(service: Service) -> Fusion:
    """How the spec wants a store's two rankings joined."""
    return msgspec.convert(service.config.get("fusion", {}), Fusion)


def check(query: str, limit: int, mode: str, threshold: float) -> None:
    """ApiError 400 that names the first faulty field."""
    if not query.strip():
        raise ApiError(400, "query is empty", param="query")
    if not 1 <= limit <= MAX_LIMIT:
        raise ApiError(400, f"the limit is {limit}; it must be between 1 and {MAX_LIMIT}", param="max_num_results")
    if mode not in get_args(SearchMode):
        modes = ", ".join(get_args(SearchMode))
        raise ApiError(400, f"search mode {mode!r} is not one of {modes}", param="search_mode")
    if not 0 <= threshold <= 1:
        raise ApiError(400, f"score threshold {threshold} is not in 0..1", param="ranking_options.score_threshold")


def query_vector(host: Host, embedding: str, query: str, mode: SearchMode, context: Context) -> bytes | None:
    """The query's float32 vector by the model ``embedding``, which the first search opens.

    None for a hybrid search whose query is too long for the model; ApiError 400 when only the vector could find something.
    """
    model: Embeddings = host.get("embeddings", embedding)
    try:
        (vector,) = model.embed([query], context).vectors
    except ApiError as error:
        if error.code != "context_length_exceeded":
            raise
        if mode == "hybrid":
            return None
        raise ApiError(400, f"the query is too long: {error.message}", param="query", code=error.code) from error
    return vector


def check_fits(vector: bytes, dimensions: int, store: str, embedding: str) -> None:
    """ApiError 503 when a query's vector is not of the length of the store's, which was built with another model then."""
    if len(vector) != 4 * dimensions:
        fault = f"it has {dimensions} dimensions, model {embedding!r} gives {len(vector) // 4}"
        message = f"vector store {store!r} does not fit its model: {fault}; build the artifact again"
        raise ApiError(503, message, type="server_error", code="index_mismatch")
