"""The options of a search reach the store as its port takes them; what no store can do is refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ports import Fusion
from lsbuild_runtime.routes.search import Ranking, RankingOptions, ranked
from runtime_asking import Ask


def ranking(options: dict[str, Any], mode: Any = None) -> Ranking:
    """What a store is asked for."""
    return ranked(msgspec.convert(options, RankingOptions), mode, "ranking_options")


@pytest.mark.parametrize(
    ("options", "fusion"),
    [
        ({}, None),
        ({"ranker": "auto"}, None),
        ({"ranker": "none"}, None),
        ({"ranker": "default-2024-11-15"}, None),
        ({"ranker": "rrf", "impact_factor": 60}, Fusion()),
        ({"ranker": {"type": "rrf"}}, Fusion()),
        ({"ranker": "weighted"}, Fusion("weighted", 0.5, 0.5)),
        ({"ranker": "weighted", "alpha": 0.75}, Fusion("weighted", 0.75, 0.25)),
        ({"ranker": {"type": "weighted", "alpha": 1}}, Fusion("weighted", 1.0, 0.0)),
        ({"hybrid_search": {"embedding_weight": 2, "text_weight": 1}}, Fusion("rrf", 2.0, 1.0)),
        ({"ranker": "auto", "hybrid_search": {"embedding_weight": 0, "text_weight": 1}}, Fusion("rrf", 0.0, 1.0)),
        ({"weights": {"vector": 0.2, "keyword": 0.8}}, Fusion("rrf", 0.2, 0.8)),
        ({"ranker": "weighted", "weights": {"vector": 3, "keyword": 1}}, Fusion("weighted", 3.0, 1.0)),
    ],
)
def test_every_way_to_weigh_becomes_one_fusion(options: dict[str, Any], fusion: Any) -> None:
    found = ranking(options)
    assert found.fusion == fusion
    assert found.mode == ("hybrid" if fusion not in (None, Fusion()) else None)
    assert ranking({**options, "score_threshold": 0.25}).threshold == 0.25


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"ranker": "mine"}, "ranking_options.ranker"),
        ({"ranker": "rrf", "impact_factor": 61}, "ranking_options.impact_factor"),
        ({"alpha": 0.5}, "ranking_options.alpha"),
        ({"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}, "ranking_options"),
        ({"ranker": "weighted", "alpha": 1, "weights": {"vector": 1}}, "ranking_options"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        ranking(options)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_weights_belong_to_a_hybrid_search() -> None:
    options = {"hybrid_search": {"embedding_weight": 1, "text_weight": 1}}
    assert ranking(options, "hybrid").mode == "hybrid"
    with pytest.raises(ApiError) as caught:
        ranking(options, "vector")
    assert caught.value.param == "search_mode"


def test_the_wire_refuses_by_name(ask: Ask) -> None:
    path = "/v1/vector_stores/manuals/search"
    for change, param in (
        ({"rewrite_query": True}, "rewrite_query"),
        ({"ranking_options": {"model": "x"}}, "ranking_options.model"),
        ({"ranking_options": {"hybrid_search": {"embedding_weight": 1}}}, "ranking_options.hybrid_search.text_weight"),
        ({"ranking_options": {"score_threshold": 2}}, "ranking_options.score_threshold"),
    ):
        answer = ask("POST", path, {"query": "pump", **change})
        assert (answer.status, answer.error["param"]) == (400, param)
    assert ask("POST", path, {"query": "pump", "rewrite_query": False}).status == 200


def test_a_hundred_filters_are_taken_and_one_more_is_not(ask: Ask) -> None:
    one = {"type": "eq", "key": "heading", "value": "Pumps"}
    body = {"query": "pump", "filters": {"type": "or", "filters": [one] * 99}}
    assert ask("POST", "/v1/vector_stores/manuals/search", body).error["message"] == "filters: only eq on heading"
    body["filters"] = {"type": "or", "filters": [one] * 100}
    assert "at most 100 filters" in ask("POST", "/v1/vector_stores/manuals/search", body).error["message"]
