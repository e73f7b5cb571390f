"""When two answers agree: equal where arithmetic is, near enough where it is not."""

from __future__ import annotations

import math

import pytest

from lsbuild.proving.answers import Answer, agree


def text(value: str) -> Answer:
    return Answer("text", [value])


def test_equal_texts_agree_everywhere() -> None:
    for exact in (True, False):
        assert agree(text("a b c"), text("a b c"), exact=exact).said == "equal"


def test_other_words_are_a_fault_where_the_arithmetic_is_the_same() -> None:
    found = agree(text("one two three four"), text("one two three five"), exact=True)
    assert (found.ok, found.said) == (False, "3 of 4 words")


@pytest.mark.parametrize(
    ("other", "ok", "said"),
    [
        ("one two three five", True, "3 of 4 words"),
        ("one two six seven", True, "2 of 4 words"),
        ("one nine ten eleven", False, "1 of 4 words"),
        ("four three two one", False, "1 of 4 words"),
        ("", False, "0 of 4 words"),
    ],
)
def test_on_another_processor_half_of_the_words_are_enough(other: str, ok: bool, said: str) -> None:
    found = agree(text("one two three four"), text(other), exact=False)
    assert (found.ok, found.said) == (ok, said)


def test_vectors_agree_by_their_cosine_also_where_the_arithmetic_is_the_same() -> None:
    one = Answer("vectors", [[1.0, 0.0], [0.0, 1.0]])
    turned = math.radians(2)
    near = Answer("vectors", [[1.0, 0.0], [math.sin(turned), math.cos(turned)]])
    far = Answer("vectors", [[1.0, 0.0], [math.sin(2 * turned), math.cos(2 * turned)]])
    assert agree(one, near, exact=True) == agree(one, near, exact=False)
    assert agree(one, near, exact=True).ok
    found = agree(one, far, exact=False)
    assert (found.ok, found.said) == (False, "cosine 0.99756")
    assert agree(one, far, exact=False, cosine=0.99).ok


def test_vectors_of_other_lengths_and_numbers_never_agree() -> None:
    one = Answer("vectors", [[1.0, 0.0]])
    assert not agree(one, Answer("vectors", [[1.0, 0.0, 0.0]]), exact=False).ok
    assert not agree(one, Answer("vectors", []), exact=False).ok
    assert not agree(one, Answer("vectors", [[0.0, 0.0]]), exact=False).ok
    assert agree(one, Answer("text", ["x"]), exact=False).said == "1 text instead of 1 vectors"


def test_passages_agree_by_what_both_found() -> None:
    ours = Answer("hits", [["a", "b", "c", "d", "e"], ["f", "g", "h", "i", "j"]])
    order = Answer("hits", [["b", "a", "c", "d", "e"], ["f", "g", "h", "i", "j"]])
    apart = Answer("hits", [["a", "b", "c", "x", "y"], ["f", "g", "h", "i", "z"]])
    assert agree(ours, order, exact=False).ok
    assert not agree(ours, order, exact=True).ok
    found = agree(ours, apart, exact=False)
    assert (found.ok, found.said) == (False, "7 of 10 passages")


def test_scores_and_values() -> None:
    assert agree(Answer("scores", [0.5, 0.1]), Answer("scores", [0.51, 0.1]), exact=True).ok
    assert not agree(Answer("scores", [0.5, 0.1]), Answer("scores", [0.6, 0.1]), exact=False).ok
    assert not agree(Answer("value", [{"a": True}]), Answer("value", [{"a": False}]), exact=False).ok
