"""The search of stores as a tool: what a model reads of it, what it may filter, and how it fails."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.ports import Fusion, Hit, Scores, SearchMode, StoreInfo
from lsbuild_runtime.retrieve import Models, Ranking
from lsbuild_runtime.tools import Found
from lsbuild_runtime.tools.file_search import NOTHING, FileSearch, numbered


class Shelf:
    """A store that always finds the same, and remembers how it was asked."""

    def __init__(self, *hits: Hit, fault: ApiError | None = None) -> None:
        self.hits = hits
        self.fault = fault
        self.asked: list[dict[str, Any]] = []

    def info(self) -> StoreInfo:
        raise NotImplementedError

    def search(
        self, query: str, context: Context, *, limit: int = 10, mode: SearchMode | None = None,  # noqa: ARG002
        filters: Mapping[str, Any] | None = None, threshold: float = 0.0, fusion: Fusion | None = None,  # noqa: ARG002
    ) -> list[Hit]:  # fmt: skip
        if self.fault:
            raise self.fault
        self.asked.append({"query": query, "filters": filters, "mode": mode})
        return list(self.hits[:limit])


class Backwards:
    """A reranker that prefers later letters."""

    def score(self, query: str, passages: Sequence[str], context: Context) -> Scores:  # noqa: ARG002
        return Scores(tuple(ord(text[-1]) / 128 for text in passages), 1)


class OneReranker:
    """A host that knows one reranker."""

    def get(self, api: str, name: str) -> Any:  # noqa: ARG002
        return Backwards()


def hit(name: str, score: float, heading: str = "") -> Hit:
    return Hit(name, f"file-{name}", f"{name}.md", f"text {name}", score, heading)


def test_the_best_passages_of_all_stores_are_numbered() -> None:
    one, two = Shelf(hit("a", 0.5), hit("b", 0.4)), Shelf(hit("c", 0.9, "Pumps > Seals"))
    tool = FileSearch({"one": one, "two": two}, {}, limit=2)
    (info,) = tool.tools(Context())
    assert info.name == "file_search" and not info.trusted and info.sends == "nothing"
    result = tool.call("file_search", {"query": "seal"}, Context())
    assert result.text == "[1] Pumps > Seals\ntext c\n[2] text a\n"
    assert [(found.store, found.hit.chunk_id) for found in result.found] == [("two", "c"), ("one", "a")]
    assert result.structured[0]["filename"] == "c.md" and not result.failed
    assert numbered(result.found[1:], 7) == "[7] text a\n"


def test_nothing_found_is_no_failure() -> None:
    result = FileSearch({"one": Shelf()}, {}).call("file_search", {"query": "x"}, Context())
    assert result.text == NOTHING and not result.failed and result.found == ()


def test_filters_of_the_call_hold_beside_the_fixed_ones() -> None:
    shelf = Shelf()
    fixed = {"type": "eq", "key": "team", "value": "a"}
    asked = {"type": "gte", "key": "year", "value": 2020}
    tool = FileSearch({"one": shelf}, {}, filters=fixed, ranking=Ranking(mode="keyword"))
    tool.call("file_search", {"query": "x"}, Context())
    tool.call("file_search", {"query": "x", "filters": asked}, Context())
    assert [each["filters"] for each in shelf.asked] == [fixed, {"type": "and", "filters": [fixed, asked]}]
    assert shelf.asked[0]["mode"] == "keyword"


def test_a_filter_that_is_none_is_told_to_the_model() -> None:
    shelf = Shelf(hit("a", 0.5))
    result = FileSearch({"one": shelf}, {}).call("file_search", {"query": "x", "filters": {"type": "like"}}, Context())
    assert result.failed and "filters" in result.text and shelf.asked == []


def test_a_store_that_cannot_answer_is_a_failed_result() -> None:
    tool = FileSearch({"one": Shelf(fault=ApiError(503, "the disk is gone", type="server_error"))}, {})
    result = tool.call("file_search", {"query": "x"}, Context())
    assert result.failed and result.text == "The search failed: the disk is gone"


def test_the_end_of_a_run_is_not_the_searchs_failure() -> None:
    late = Context(deadline=time.monotonic() - 1)
    with pytest.raises(ApiError, match="deadline"):
        FileSearch({"one": Shelf()}, {}).call("file_search", {"query": "x"}, late)
    gone = Context()
    gone.cancel.set()
    with pytest.raises(Cancelled):
        FileSearch({"one": Shelf()}, {}).call("file_search", {"query": "x"}, gone)
    with pytest.raises(ApiError, match="no tool 'other'"):
        FileSearch({"one": Shelf()}, {}).call("other", {"query": "x"}, Context())


def test_the_reranker_of_a_store_has_its_word_unless_the_ranking_says_no() -> None:
    shelf = Shelf(hit("a", 0.9), hit("b", 0.5))
    around = {"one": Models(OneReranker(), rerank="judge")}  # type: ignore[arg-type]
    ranked = FileSearch({"one": shelf}, around).call("file_search", {"query": "x"}, Context())
    plain = FileSearch({"one": shelf}, around, ranking=Ranking(rerank=False)).call(
        "file_search", {"query": "x"}, Context()
    )
    assert [found.hit.chunk_id for found in ranked.found] == ["b", "a"]
    assert [found.hit.chunk_id for found in plain.found] == ["a", "b"]
    assert isinstance(ranked.found[0], Found)
