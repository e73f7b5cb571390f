"""Documents compiled by the real steps, loaded into a real server: the same answers as from a compiled index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pg_compiler import PgCompiler
from test_vec_store import DOCS, FILTERS, PUMP

from lsbuild_plugins.pgvector.serve import search
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.mutable import MutableVectorIO
from lsbuild_runtime.ports import Fusion, VectorIO
from postgres_server import Postgres

MODES = ("vector", "keyword", "hybrid")


@pytest.fixture(scope="module")
def compiled(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, VectorIO]]:
    """One store for all tests here: none of them writes."""
    from pg_place import Place

    folder = tmp_path_factory.mktemp("compiled")
    place = Place(server, folder)
    seed = PgCompiler(folder).build(DOCS)
    (place.root / "indexes").mkdir(parents=True)
    (place.root / "indexes/manuals").symlink_to(seed)
    yield place, place.open(path="indexes/manuals", mutable=False)
    place.close()


@pytest.fixture
def store(compiled: tuple[Any, VectorIO]) -> VectorIO:
    return compiled[1]


@pytest.mark.parametrize("mode", MODES)
def test_a_question_finds_its_passage(store: VectorIO, mode: Any) -> None:
    best, *_ = store.search("How do I reset it? Hold which button?", Context(), mode=mode)
    assert (best.text, best.heading) == ("Hold the red button for ten seconds.", "Pump > Reset")
    assert best.filename == "docs/pump.md"
    assert PUMP[best.start : best.end] == best.text
    assert (best.line_start, best.line_end) == (7, 7)
    assert 0 < best.score <= 1


@pytest.mark.parametrize("mode", MODES)
def test_scores_fall_and_limit_and_threshold_hold(store: VectorIO, mode: Any) -> None:
    everything = store.search("close the water of the pump", Context(), mode=mode)
    scores = [hit.score for hit in everything]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert store.search("close the water of the pump", Context(), mode=mode, limit=2) == everything[:2]
    above = store.search("close the water of the pump", Context(), mode=mode, threshold=scores[1])
    assert above == [hit for hit in everything if hit.score >= scores[1]]


def test_the_same_text_has_the_vector_score_one(store: VectorIO) -> None:
    best, *_ = store.search("Pump > Warranty\nThe warranty lasts two years.", Context(), mode="vector")
    assert best.score == pytest.approx(1.0, abs=1e-6)


def test_keyword_score_is_the_share_of_what_was_asked(store: VectorIO) -> None:
    (whole,) = store.search("warranty", Context(), mode="keyword")
    (half,) = store.search("warranty zeppelin", Context(), mode="keyword")
    assert half.text == whole.text
    assert half.score < whole.score / 2


def test_words_are_stemmed_and_stop_words_do_not_match(store: VectorIO) -> None:
    assert [hit.heading for hit in store.search("RINSING filters", Context(), mode="keyword")] == ["Filter"]
    assert store.search("how do I this", Context(), mode="keyword") == []
    assert store.search("zeppelin", Context(), mode="keyword") == []


def test_keyword_search_needs_no_model(compiled: tuple[Any, VectorIO]) -> None:
    class Nobody:
        def get(self, *_: str) -> Any:
            raise AssertionError

    store = compiled[0].open(Nobody(), path="indexes/manuals", search="keyword")
    assert store.search("warranty", Context())[0].heading == "Pump > Warranty"


def test_attributes_come_with_their_types(store: VectorIO) -> None:
    best, *_ = store.search("rinse the filter", Context())
    assert best.attributes == {"product": "F2", "sold": True, "weight": 1.5, "year": 2024}
    assert list(map(type, best.attributes.values())) == [str, bool, float, int]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_filters(store: VectorIO, filters: dict[str, Any], expected: set[str], mode: Any) -> None:
    query = "pump reset warranty filter valve"
    assert {hit.heading for hit in store.search(query, Context(), mode=mode, filters=filters)} == expected


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"query": " "}, "query"),
        ({"limit": 0}, "max_num_results"),
        ({"limit": 1001}, "max_num_results"),
        ({"mode": "fuzzy"}, "search_mode"),
        ({"threshold": float("nan")}, "ranking_options.score_threshold"),
        ({"filters": {"type": "like", "key": "a", "value": "b"}}, "filters.type"),
        ({"filters": {"type": "and", "filters": []}}, "filters.filters"),
    ],
)
def test_faulty_arguments_name_the_field(store: VectorIO, arguments: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as error:
        store.search(**{"query": "pump", "context": Context(), **arguments})
    assert (error.value.status, error.value.param) == (400, param)


@pytest.mark.parametrize("ranker", ["rrf", "weighted"])
def test_hybrid_is_the_fusion_of_both_rankings_and_weights_move_it(store: VectorIO, ranker: Any) -> None:
    query = "close the water of the pump"
    rankings = [
        [(hit.chunk_id, hit.score) for hit in store.search(query, Context(), mode=mode)]  # type: ignore[arg-type]
        for mode in ("vector", "keyword")
    ]

    def fused(weights: tuple[float, float]) -> dict[str, float]:
        scores: dict[str, float] = {}
        for ranking, weight in zip(rankings, weights, strict=True):
            for place, (chunk, score) in enumerate(ranking if weight else (), start=1):
                worth = score if ranker == "weighted" else 61 / (60 + place)
                scores[chunk] = scores.get(chunk, 0) + weight * worth / sum(weights)
        return scores

    for weights in ((1.0, 1.0), (3.0, 1.0), (0.0, 1.0), (2.0, 0.0)):
        hits = store.search(query, Context(), mode="hybrid", fusion=Fusion(ranker, *weights))
        assert {hit.chunk_id: hit.score for hit in hits} == pytest.approx(fused(weights))
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_query_too_long_for_the_model_is_found_by_its_words_or_refused(compiled: tuple[Any, VectorIO]) -> None:
    from pg_place import Host

    store = compiled[0].open(Host(longest=20), path="indexes/manuals")
    query = "My pump is broken and I pasted all of this, " * 10 + "warranty"
    best, *_ = store.search(query, Context())
    assert best.heading == "Pump > Warranty"
    assert best.score <= 0.5
    with pytest.raises(ApiError) as error:
        store.search(query, Context(), mode="vector")
    assert (error.value.status, error.value.param) == (400, "query")


def test_a_model_of_other_dimensions_is_a_clear_error(compiled: tuple[Any, VectorIO]) -> None:
    from pg_place import Host

    store = compiled[0].open(Host(dimensions=32), path="indexes/manuals")
    with pytest.raises(ApiError, match="96 dimensions, model 'embed' gives 32") as error:
        store.search("pump", Context())
    assert (error.value.status, error.value.code) == (503, "index_mismatch")


def test_a_cancelled_search_stops(store: VectorIO) -> None:
    with pytest.raises(ApiError) as error:
        store.search("pump", Context(deadline=0.0))
    assert error.value.status == 408


def test_a_store_that_is_not_mutable_takes_nothing(store: VectorIO) -> None:
    assert not any(hasattr(store, name) for name in ("put", "add", "remove", "set_attributes"))


@pytest.fixture
def crowd(place: Any, monkeypatch: pytest.MonkeyPatch) -> MutableVectorIO:
    """Enough passages for the index, since that begins at 20 here; few of them are green."""
    from store_contract import given

    monkeypatch.setattr(search, "EXACT_ROWS", 20)
    # A planner that knows how small this table is would rather read it whole.
    store: MutableVectorIO = place.open(dsn=f"{place.dsn}?options=-c%20enable_seqscan%3Doff")
    for number in range(120):
        color = "green" if number % 15 == 0 else "red"
        attributes = {"color": color, "part": number % 2, "number": number}
        store.put(*given(f"file-{number:03}", f"The pump number {number} is {color}.", attributes=attributes))
    return store


def test_the_index_is_used_and_finds_nearly_all_that_a_comparison_of_all_finds(
    place: Any, crowd: MutableVectorIO
) -> None:
    exact = place.open(index="none")
    for query in ("pump number 7", "green pump", "number 45"):
        for limit in (1, 10, 60, 200):
            wanted = exact.search(query, Context(), mode="vector", limit=limit)
            found = crowd.search(query, Context(), mode="vector", limit=limit)
            assert len(found) == min(limit, 120)
            worst = wanted[-1].score - 1e-6  # of equal scores either may come
            assert sum(hit.score >= worst for hit in found) >= 0.9 * len(found)
            assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    place.close()  # a session reports what it did when it ends
    with place.connect() as connection:
        used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'passages_1_vectors' AND schemaname = %s"
        row = connection.execute(used, (place.schema,)).fetchone()
        assert row
        assert row[0] >= 9


@pytest.mark.parametrize("mode", MODES)
def test_behind_a_filter_no_row_is_missed(crowd: MutableVectorIO, mode: Any) -> None:
    for filters, count in (
        ({"type": "eq", "key": "color", "value": "green"}, 8),
        ({"type": "eq", "key": "part", "value": 1}, 60),
        ({"type": "gte", "key": "number", "value": 119}, 1),
        ({"type": "nin", "key": "color", "value": ["red", "green"]}, 0),
    ):
        hits = crowd.search("the red pump", Context(), mode=mode, limit=100, filters=filters)
        assert len(hits) == count
