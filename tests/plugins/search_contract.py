"""What a search over compiled documents answers, as tests that every provider runs: subclass `SearchContract`, give `reopen`.

class TestMine(SearchContract):
    @pytest.fixture
    def reopen(self) -> Reopen: ...
"""

from __future__ import annotations

from typing import Any, Protocol

import pytest
from vec_hashing import Hashing

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import VectorIO

MODES = ("vector", "keyword", "hybrid")

PUMP = """\
# Pump

Intro about the pump.

## Reset

Hold the red button for ten seconds.

## Warranty

The warranty lasts two years.
"""
FILTER = """\
---
product: F2
year: 2024
weight: 1.5
sold: true
---
# Filter

Rinse the filter with cold water every month.
"""
VALVE = """\
---
product: V1
year: 2020
sold: false
---
# Valve

Turn the valve to the left to close the water.
"""
DOCS = {"docs/pump.md": PUMP, "docs/filter.md": FILTER, "docs/valve.md": VALVE, "docs/empty.md": ""}

ALL = {"Pump", "Pump > Reset", "Pump > Warranty", "Filter", "Valve"}
PUMPS = {"Pump", "Pump > Reset", "Pump > Warranty"}
FILTERS = [
    ({"type": "eq", "key": "product", "value": "F2"}, {"Filter"}),
    ({"type": "ne", "key": "product", "value": "F2"}, ALL - {"Filter"}),
    ({"type": "eq", "key": "year", "value": 2024}, {"Filter"}),
    ({"type": "eq", "key": "year", "value": 2024.0}, {"Filter"}),
    ({"type": "eq", "key": "year", "value": "2024"}, set()),
    ({"type": "gt", "key": "year", "value": 2020}, {"Filter"}),
    ({"type": "gte", "key": "year", "value": 2020}, {"Filter", "Valve"}),
    ({"type": "lt", "key": "year", "value": 2024}, {"Valve"}),
    ({"type": "lte", "key": "year", "value": 2024}, {"Filter", "Valve"}),
    ({"type": "gt", "key": "product", "value": "G"}, {"Valve"}),
    ({"type": "gt", "key": "product", "value": 1}, set()),
    ({"type": "eq", "key": "sold", "value": True}, {"Filter"}),
    ({"type": "eq", "key": "sold", "value": 1}, set()),
    ({"type": "eq", "key": "weight", "value": 1.5}, {"Filter"}),
    ({"type": "in", "key": "product", "value": ["V1", "X"]}, {"Valve"}),
    ({"type": "in", "key": "product", "value": []}, set()),
    ({"type": "nin", "key": "product", "value": ["V1", "F2"]}, PUMPS),
    ({"type": "nin", "key": "product", "value": []}, ALL),
    ({"type": "eq", "key": "filename", "value": "docs/pump.md"}, PUMPS),
    ({"type": "eq", "key": "heading", "value": "Pump > Reset"}, {"Pump > Reset"}),
    ({"type": "eq", "key": "heading", "value": 1}, set()),
    ({"type": "ne", "key": "heading", "value": 1}, ALL),
    ({"type": "eq", "key": "nothing", "value": "x"}, set()),
    ({"type": "ne", "key": "nothing", "value": "x"}, ALL),
    ({"type": "eq", "key": "'; DROP TABLE chunks; --", "value": "' OR 1=1 --"}, set()),
    ({"type": "eq", "key": "a\udc00", "value": "\ud800"}, set()),
    (
        {
            "type": "or",
            "filters": [
                {"type": "eq", "key": "sold", "value": False},
                {
                    "type": "and",
                    "filters": [
                        {"type": "eq", "key": "filename", "value": "docs/pump.md"},
                        {"type": "in", "key": "heading", "value": ["Pump", "Filter"]},
                    ],
                },
            ],
        },
        {"Valve", "Pump"},
    ),
]


class One:
    """A host with one model."""

    def __init__(self, **model: Any) -> None:
        self._model = Hashing(**model)

    def get(self, *_: str) -> Any:
        return self._model


class Reopen(Protocol):
    """Opens the store that was compiled from DOCS, for another host or with other settings of its spec."""

    def __call__(self, host: Any = None, **keys: Any) -> VectorIO: ...


class SearchContract:
    """What holds for every search over `DOCS`, embedded by `vec_hashing.Hashing` in 96 dimensions."""

    @pytest.fixture
    def reopen(self) -> Reopen:
        raise NotImplementedError

    @pytest.fixture
    def store(self, reopen: Reopen) -> VectorIO:
        return reopen()

    @pytest.mark.parametrize("mode", MODES)
    def test_a_question_finds_its_passage(self, store: VectorIO, mode: Any) -> None:
        best, *_ = store.search("How do I reset it? Hold which button?", Context(), mode=mode)
        assert best.text == "Hold the red button for ten seconds."
        assert best.heading == "Pump > Reset"
        assert best.filename == "docs/pump.md"
        assert PUMP[best.start : best.end] == best.text
        assert (best.line_start, best.line_end) == (7, 7)
        assert 0 < best.score <= 1

    @pytest.mark.parametrize("mode", MODES)
    def test_scores_fall_and_limit_and_threshold_hold(self, store: VectorIO, mode: Any) -> None:
        everything = store.search("close the water of the pump", Context(), mode=mode)
        scores = [hit.score for hit in everything]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
        assert store.search("close the water of the pump", Context(), mode=mode, limit=2) == everything[:2]
        above = store.search("close the water of the pump", Context(), mode=mode, threshold=scores[1])
        assert above == [hit for hit in everything if hit.score >= scores[1]]

    def test_the_same_text_has_the_vector_score_one(self, store: VectorIO) -> None:
        best, *_ = store.search("Pump > Warranty\nThe warranty lasts two years.", Context(), mode="vector")
        assert best.score == pytest.approx(1.0, abs=1e-6)

    def test_keyword_score_is_the_share_of_what_was_asked(self, store: VectorIO) -> None:
        (whole,) = store.search("warranty", Context(), mode="keyword")
        (half,) = store.search("warranty zeppelin", Context(), mode="keyword")
        assert half.text == whole.text
        assert half.score < whole.score / 2

    def test_words_are_stemmed_and_stop_words_do_not_match(self, store: VectorIO) -> None:
        assert [hit.heading for hit in store.search("RINSING filters", Context(), mode="keyword")] == ["Filter"]
        assert store.search("how do I this", Context(), mode="keyword") == []
        assert store.search("zeppelin", Context(), mode="keyword") == []

    def test_keyword_search_needs_no_model(self, reopen: Reopen) -> None:
        class Nobody:
            def get(self, *_: str) -> Any:
                raise AssertionError

        store = reopen(Nobody(), search="keyword")
        assert store.search("warranty", Context())[0].heading == "Pump > Warranty"

    def test_attributes_come_with_their_types(self, store: VectorIO) -> None:
        best, *_ = store.search("rinse the filter", Context())
        assert best.attributes == {"product": "F2", "sold": True, "weight": 1.5, "year": 2024}
        assert list(map(type, best.attributes.values())) == [str, bool, float, int]

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(("filters", "expected"), FILTERS)
    def test_filters(self, store: VectorIO, filters: dict[str, Any], expected: set[str], mode: Any) -> None:
        query = "pump reset warranty filter valve"
        assert {hit.heading for hit in store.search(query, Context(), mode=mode, filters=filters)} == expected

    @pytest.mark.parametrize(
        ("arguments", "param"),
        [
            ({"query": " "}, "query"),
            ({"limit": 0}, "max_num_results"),
            ({"limit": 1001}, "max_num_results"),
            ({"mode": "fuzzy"}, "search_mode"),
            ({"threshold": 1.5}, "ranking_options.score_threshold"),
            ({"threshold": float("nan")}, "ranking_options.score_threshold"),
        ],
    )
    def test_faulty_arguments_name_the_field(self, store: VectorIO, arguments: dict[str, Any], param: str) -> None:
        with pytest.raises(ApiError) as error:
            store.search(**{"query": "pump", "context": Context(), **arguments})
        assert (error.value.status, error.value.param) == (400, param)

    def test_a_query_too_long_for_the_model_is_found_by_its_words_or_refused(self, reopen: Reopen) -> None:
        store = reopen(One(longest=20))
        query = "My pump is broken and I pasted all of this, " * 10 + "warranty"
        best, *_ = store.search(query, Context())
        assert best.heading == "Pump > Warranty"
        assert best.score <= 0.5
        with pytest.raises(ApiError) as error:
            store.search(query, Context(), mode="vector")
        assert (error.value.status, error.value.param) == (400, "query")

    def test_a_model_of_other_dimensions_is_a_clear_error(self, reopen: Reopen) -> None:
        store = reopen(One(dimensions=32))
        with pytest.raises(ApiError, match="96 dimensions, model 'embed' gives 32") as error:
            store.search("pump", Context())
        assert (error.value.status, error.value.code) == (503, "index_mismatch")

    def test_a_cancelled_search_stops(self, store: VectorIO) -> None:
        context = Context(deadline=0.0)
        with pytest.raises(ApiError) as error:
            store.search("pump", context)
        assert error.value.status == 408
