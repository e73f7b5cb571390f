"""Documents compiled by the real steps, loaded into a real server: the same answers as from a compiled index."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from pg_compiler import PgCompiler
from search_contract import DOCS, MODES, Reopen, SearchContract

from lsbuild_plugins.pgvector.serve import search
from lsbuild_runtime.http import Context
from lsbuild_runtime.mutable import MutableVectorIO
from lsbuild_runtime.ports import Fusion, VectorIO
from postgres_server import Postgres


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


class TestSearch(SearchContract):
    @pytest.fixture
    def reopen(self, compiled: tuple[Any, VectorIO]) -> Iterator[Reopen]:
        place, _ = compiled
        before = len(place.opened)
        yield partial(place.open, path="indexes/manuals", mutable=False)
        for opened in place.opened[before:]:  # or the server runs out of connections
            opened._pool.close()
        del place.opened[before:]


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
