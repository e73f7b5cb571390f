"""``file_search``: the search of stores as a tool that a model calls; it knows neither agents nor HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lsbuild_runtime import filters as filtering
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import VectorIO
from lsbuild_runtime.retrieve import Models, Ranking, search
from lsbuild_runtime.tools import Found, ToolInfo, ToolResult

NAME = "file_search"
NOTHING = "Nothing was found. Try other words, or answer without the documents and say so."

_ALONE = Models()
_DEFAULT = Ranking()
_COMPARISON = {
    "type": "object",
    "properties": {
        "type": {"enum": ["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]},
        "key": {"type": "string", "description": "Name of an attribute, such as filename."},
        "value": {"type": ["string", "number", "boolean", "array"]},
    },
    "required": ["type", "key", "value"],
    "additionalProperties": False,
}
_FILTERS = {
    "description": "Only passages of documents whose attributes fit: one comparison, or several joined by and / or.",
    "anyOf": [
        _COMPARISON,
        {
            "type": "object",
            "properties": {
                "type": {"enum": ["and", "or"]},
                "filters": {"type": "array", "items": {"type": "object"}, "minItems": 1},
            },
            "required": ["type", "filters"],
            "additionalProperties": False,
        },
    ],
}
_PARAMETERS = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "minLength": 1,
            "description": "What to look for, in words that a document with the answer would use.",
        },
        "filters": _FILTERS,
    },
    "required": ["query"],
    "additionalProperties": False,
}
INFO = ToolInfo(
    name=NAME,
    description="Searches the documents and gives the passages that fit best, numbered; cite them as [1], [2] and so on.",
    parameters=_PARAMETERS,
)


class FileSearch:
    """Implements tools.ToolRuntime over ``stores``, which may not be empty; one call gives ``limit`` passages of all.

    A reranker that ``around`` names for a store has its word, a rewriting model has none: the query is a model's own
    already. ``filters`` (OpenAI's object) hold beside those of a call. Documents are not trusted: what they say taints.
    """

    def __init__(
        self,
        stores: Mapping[str, VectorIO],
        around: Mapping[str, Models],
        limit: int = 5,
        ranking: Ranking = _DEFAULT,
        filters: Mapping[str, Any] | None = None,
    ) -> None:
        self._stores = stores
        self._around = around
        self._limit = limit
        self._ranking = ranking
        self._filters = filters

    def tools(self, context: Context) -> Sequence[ToolInfo]:  # noqa: ARG002 - the same for everybody
        """See tools.ToolRuntime."""
        return (INFO,)

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        """See tools.ToolRuntime. A store that cannot be searched, or a filter that is none, is a failed result."""
        if name != NAME:
            raise ApiError(404, f"there is no tool {name!r}; the search is called {NAME}", code="not_found")
        try:
            found = self._found(str(arguments["query"]), self._both(arguments.get("filters")), context)
        except ApiError as error:
            context.check()  # a run past its deadline is not the search's failure
            return ToolResult(f"The search failed: {error.message}", failed=True)
        return ToolResult(numbered(found) or NOTHING, structured=_listed(found), found=found)

    def _found(self, query: str, filters: Mapping[str, Any] | None, context: Context) -> tuple[Found, ...]:
        """The best passages of all stores, best first; equal scores stay in the order of the stores."""
        found: list[Found] = []
        for store, port in self._stores.items():
            context.check()
            reranker = None if self._ranking.rerank is False else self._around.get(store, _ALONE).reranker()
            with context.watch.span(f"search {store}", **{"gen_ai.data_source.id": store}):
                hits = search(port, (query,), context, self._limit, self._ranking, filters, reranker)
            found += (Found(store, hit) for hit in hits)
        return tuple(sorted(found, key=lambda each: -each.hit.score)[: self._limit])

    def _both(self, asked: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The filters of the call and the fixed ones; ApiError 400 for those of the call alone."""
        if not asked:
            return self._filters
        filtering.parse(asked)
        return {"type": "and", "filters": [self._filters, asked]} if self._filters else asked


def numbered(found: Sequence[Found], first: int = 1) -> str:
    """``[1] text``, or ``[1] heading``, a line break and the text; each passage ends with a line break."""
    return "".join(
        f"[{number}] {each.hit.heading}\n{each.hit.text}\n" if each.hit.heading else f"[{number}] {each.hit.text}\n"
        for number, each in enumerate(found, first)
    )


def _listed(found: Sequence[Found]) -> list[dict[str, Any]]:
    return [
        {"file_id": each.hit.file_id, "filename": each.hit.filename, "score": each.hit.score, "text": each.hit.text}
        for each in found
    ]
