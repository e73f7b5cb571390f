"""The shipped packs against messages labelled for them: precision and recall, evasions, injections, and no leak at any split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from bench import finding
from injection_cases import harmless, injections
from lsbuild_plugins.rules.compile.quality import Counts

FLOORS = {
    "pii": (0.92, 0.9),
    "secrets": (0.98, 0.9),
    "prompt-injection": (0.98, 0.8),
    "jailbreak": (0.95, 0.75),
    "profanity": (0.98, 0.9),
    "self-harm": (0.98, 0.78),
    "violence": (0.98, 0.83),
}
"""Lowest precision and recall by family: a category counts with those that begin with its name, ``violence`` with threats
and weapons."""
Record = Callable[[str, object], None]


def shares(counts: Counts) -> tuple[float, float]:
    """Precision and recall of a category that is there and found."""
    assert counts.precision is not None and counts.recall is not None
    return counts.precision, counts.recall


def test_there_are_enough_messages_and_enough_of_them_harmless() -> None:
    messages = finding.messages()
    assert len(messages) >= 400
    assert len({message.text for message in messages}) == len(messages)
    assert sum(not message.categories for message in messages) >= 100


@pytest.mark.parametrize("category", FLOORS)
def test_precision_and_recall(category: str, record_property: Record) -> None:
    precision, recall = shares(finding.qualities()[category])
    record_property("precision", round(precision, 3))
    record_property("recall", round(recall, 3))
    least_precision, least_recall = FLOORS[category]
    assert precision >= least_precision
    assert recall >= least_recall


def test_harmless_messages_are_left_alone() -> None:
    wrong = {text for each in finding.qualities().values() for text in each.wrong}
    flagged = [each.text for each in finding.messages() if not each.categories and each.text in wrong]
    assert len(flagged) <= 2, flagged


def test_no_split_of_a_labelled_message_leaks() -> None:
    # Every split in two is `make bench ONLY=safety_leaks`; every third takes a third of the time.
    assert next(finding.leaks(3), None) is None


def test_at_least_nine_of_eleven_evasions_are_caught() -> None:
    assert len(finding.EVASIONS) == 11
    assert set(finding.EVASIONS) - finding.caught() == {"letters apart"}


def test_the_corpus_of_injections_is_what_it_says() -> None:
    cases, fine = injections(), harmless()
    assert len(cases) >= 200 and len(fine) >= 60
    assert (
        len({case.id for case in (*cases, *fine)})
        == len({case.text for case in (*cases, *fine)})
        == len(cases) + len(fine)
    )
    assert Counter(case.channel for case in cases).most_common()[-1][1] >= 30
    assert all(case.forbidden and case.arguments and case.expected for case in cases)
    assert not any(case.forbidden or case.expected for case in fine)
    assert len({case.technique for case in cases}) >= 20


def test_what_the_pack_finds_of_them_is_told(record_property: Record) -> None:
    """Rules know phrases: most injections say what they want in words of their own. Policy is what stops them."""
    precision, recall = shares(finding.injections())
    record_property("injections precision", round(precision, 3))
    record_property("injections recall", round(recall, 3))
    assert recall >= 0.35
    assert precision >= 0.95
