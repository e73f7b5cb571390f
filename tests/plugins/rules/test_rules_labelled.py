"""The shipped packs against messages written and labelled for it: precision and recall by category, and no leak at any split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct
from rules_shields import general, streamed

from lsbuild_runtime.http import Context
from lsbuild_runtime.shielding import Where


class Labelled(Struct, frozen=True):
    """A message and the categories that a person sees in it. Written apart from the rules; some rules were mended by it."""

    text: str
    categories: list[str]
    where: Where


LINES = (Path(__file__).parent / "labelled.jsonl").read_text(encoding="utf-8").splitlines()
MESSAGES = [msgspec.json.decode(line, type=Labelled) for line in LINES]
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
FAMILY = {
    "threat": "violence",
    "weapons": "violence",
    "self-harm-intent": "self-harm",
    "self-harm-instructions": "self-harm",
}


def found(message: Labelled) -> set[str]:
    findings = general().check(message.text, message.where, Context()).findings
    return {FAMILY.get(finding.category, finding.category) for finding in findings}


def meant(message: Labelled) -> set[str]:
    return {FAMILY.get(category, category) for category in message.categories}


def test_there_are_enough_messages_and_enough_of_them_harmless() -> None:
    assert len(MESSAGES) >= 400
    assert len({message.text for message in MESSAGES}) == len(MESSAGES)
    assert sum(not message.categories for message in MESSAGES) >= 100


@pytest.mark.parametrize("category", FLOORS)
def test_precision_and_recall(category: str, record_property: Callable[[str, object], None]) -> None:
    hits = [(category in found(message), category in meant(message)) for message in MESSAGES]
    both = sum(one and other for one, other in hits)
    precision = both / max(sum(one for one, _ in hits), 1)
    recall = both / max(sum(other for _, other in hits), 1)
    record_property("precision", round(precision, 3))
    record_property("recall", round(recall, 3))
    least_precision, least_recall = FLOORS[category]
    assert precision >= least_precision
    assert recall >= least_recall


def test_harmless_messages_are_left_alone() -> None:
    flagged = [message.text for message in MESSAGES if not message.categories and found(message)]
    assert len(flagged) <= 2, flagged


@pytest.mark.parametrize("where", ["input", "output"])
def test_no_split_of_a_labelled_message_leaks(where: Where) -> None:
    for message in MESSAGES:
        whole = general().check(message.text, where, Context())
        if not whole.findings:
            continue
        text = message.text
        for pieces in (list(text), *([text[:place], text[place:]] for place in range(0, len(text), 3))):
            assert streamed(general(), pieces, where) == whole
