"""The measures against trec_eval itself, and by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsbuild.evals import metrics

RANKS = st.lists(st.one_of(st.none(), st.integers(1, 20)), min_size=1, max_size=6).filter(
    lambda ranks: len({rank for rank in ranks if rank}) == sum(rank is not None for rank in ranks)
)


def trec(ranks: list[int | None], grades: list[int]) -> dict[str, float]:
    """What trec_eval says of a run of 20 documents in which the right ones stand at ``ranks``."""
    module = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
    qrel = {"q": {f"right{index}": grade for index, grade in enumerate(grades)}}
    place = {rank: f"right{index}" for index, rank in enumerate(ranks) if rank}
    run = {"q": {place.get(rank, f"wrong{rank}"): float(100 - rank) for rank in range(1, 21)}}
    wanted = {"ndcg_cut.1,5,10", "recall.1,5,10", "recip_rank", "success.1,5,10"}
    found: dict[str, float] = module.RelevanceEvaluator(qrel, wanted).evaluate(run)["q"]
    return found


@settings(deadline=None)  # importing trec_eval takes a second
@given(RANKS, st.data())
def test_every_measure_is_trec_eval_s(ranks: list[int | None], data: st.DataObject) -> None:
    grades = data.draw(st.lists(st.integers(1, 4), min_size=len(ranks), max_size=len(ranks)))
    theirs = trec(ranks, grades)
    assert metrics.reciprocal(ranks) == pytest.approx(theirs["recip_rank"], abs=1e-6)
    for k in (1, 5, 10):
        assert metrics.recall(ranks, k) == pytest.approx(theirs[f"recall_{k}"], abs=1e-6)
        assert metrics.success(ranks, k) == pytest.approx(theirs[f"success_{k}"], abs=1e-6)
        assert metrics.ndcg(ranks, grades, k) == pytest.approx(theirs[f"ndcg_cut_{k}"], abs=1e-6)


def test_by_hand() -> None:
    ranks = (2, None, 4)
    assert metrics.value("recall@3", ranks, (1, 1, 1)) == pytest.approx(1 / 3)
    assert metrics.value("success@1", ranks, (1, 1, 1)) == 0
    assert metrics.value("mrr", ranks, ()) == 0.5
    gained = 3 / math.log2(3) + 1 / math.log2(5)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert metrics.value("ndcg@10", ranks, (3, 2, 1)) == pytest.approx(gained / ideal)
    assert metrics.reciprocal((None,)) == 0


def test_two_right_places_in_one_passage_are_not_better_than_perfect() -> None:
    assert metrics.ndcg((1, 1), (1, 1), 10) == 1


def test_separation_is_the_chance_that_right_beats_wrong() -> None:
    assert metrics.auc([0.9, 0.8], [0.1, 0.2]) == 1
    assert metrics.auc([0.5], [0.5]) == 0.5
    assert metrics.auc([0.1, 0.9], [0.5]) == 0.5


@pytest.mark.parametrize("name", ["recall@0", "precision@3", "ndcg", "mrr@10", "recall@1000"])
def test_names_that_are_no_measures(name: str) -> None:
    assert not metrics.NAME.fullmatch(name)
