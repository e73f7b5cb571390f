"""A user's text never becomes query syntax; rankings fuse as the paper says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsbuild_plugins.sqlite_vec.compile.pruning import pruner
from lsbuild_plugins.sqlite_vec.serve.format import TABLES
from lsbuild_plugins.sqlite_vec.serve.fuse import fuse
from lsbuild_plugins.sqlite_vec.serve.lists import Ranked
from lsbuild_plugins.sqlite_vec.serve.words import MAX_WORDS, words
from lsbuild_runtime.ports import Fusion

TEXTS = [
    "reset the pump near column text",
    "NOT AND OR NEAR heading rowid",
    "naïve Straße 漢字 x_y 3.14 e-mail",
    "about us",
]


@pytest.fixture(scope="module")
def db() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute(TABLES)
    for row, text in enumerate(TEXTS, start=1):
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (row, text))
    yield connection
    connection.close()


def found(db: apsw.Connection, query: str) -> list[int]:
    expression = words(db, query, len(TEXTS)).expression
    if not expression:
        return []
    rows = db.execute("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank", (expression,)).fetchall()
    return [row for (row,) in rows]


syntax = st.sampled_from(
    [
        '"',
        "'",
        "*",
        "(",
        ")",
        ":",
        "^",
        "-",
        "+",
        "{",
        "}",
        "NEAR(",
        "NEAR",
        "AND",
        "OR",
        "NOT",
        "text:",
        "\0",
        ";",
        "--",
        "\\",
    ]
)
pieces = st.lists(st.one_of(syntax, st.text(max_size=5), st.sampled_from(" ".join(TEXTS).split())), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pieces, st.sampled_from(["", " "]))
def test_no_text_is_an_sql_or_fts_error(db: apsw.Connection, parts: list[str], between: str) -> None:
    query = between.join(parts).encode("utf-8", "replace").decode()
    rows = found(db, query)
    assert len(rows) == len(set(rows))
    assert words(db, query, len(TEXTS)).best >= 0


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("NOT pump", [1]),
        ("rowid NEAR pump", [1, 2]),
        ("text:pump", [1]),
        ("pum*", []),
        ("NEAR(pump zzz)", [1, 2]),
        ("NAIVE strasse", [3]),
        ("Straße", [3]),
        ("漢字", [3]),
        ("e-mail", [3]),
        ("about", [4]),
        ("what about the pump", [1]),
    ],
)
def test_operators_are_words(db: apsw.Connection, query: str, rows: list[int]) -> None:
    assert sorted(found(db, query)) == rows


def test_a_long_query_keeps_its_rarest_words(db: apsw.Connection) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(TABLES)
    many = [f"w{number}" for number in range(100)]
    for row in range(1, 101):
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (row, " ".join(many[:row])))
    expression = words(connection, " ".join(many), 100).expression
    assert set(expression.split(" OR ")) == {f'"w{number}"' for number in range(100 - MAX_WORDS, 100)}
    connection.close()


ranking = st.lists(st.integers(1, 30), unique=True, max_size=20)


@settings(deadline=None)
def ranks(*rows: int) -> Ranked:
    """Rows as a ranking; the scores say nothing."""
    return [(row, 0.5) for row in rows]


@given(ranking, ranking)
def test_fusion(first: list[int], second: list[int]) -> None:
    fused = fuse(ranks(*first), ranks(*second), Fusion())
    scores = dict(fused)
    assert set(scores) == set(first) | set(second)
    assert fused == sorted(fused, key=lambda pair: (-pair[1], pair[0]))
    assert all(0 < score <= 1 for score in scores.values())
    assert scores == pytest.approx(dict(fuse(ranks(*second), ranks(*first), Fusion())))
    for rows in (first, second):
        for better, worse in pairwise(rows):
            other = second if rows is first else first
            if better in other and worse in other and other.index(better) < other.index(worse):
                assert scores[better] > scores[worse]


def test_fusion_known_values() -> None:
    assert dict(fuse(ranks(1, 2), ranks(1), Fusion())) == {1: 1.0, 2: pytest.approx(61 / 62 / 2)}
    assert fuse(ranks(1, 2), ranks(2, 1), Fusion()) == [
        (1, pytest.approx(61 / 2 * (1 / 61 + 1 / 62))),
        (2, pytest.approx(61 / 2 * (1 / 61 + 1 / 62))),
    ]


def test_weights_move_the_fusion_and_a_weight_of_zero_silences_a_ranking() -> None:
    assert dict(fuse(ranks(1), ranks(2), Fusion("rrf", 3, 1))) == {1: pytest.approx(0.75), 2: pytest.approx(0.25)}
    assert fuse(ranks(1, 2), ranks(3), Fusion("rrf", 1, 0)) == [(1, 1.0), (2, pytest.approx(61 / 62))]


def test_scores_are_added_up_where_the_spec_says_so() -> None:
    near, worded = [(1, 0.9), (2, 0.5)], [(2, 0.8)]
    assert fuse(near, worded, Fusion("weighted", 3, 1)) == [(1, pytest.approx(0.675)), (2, pytest.approx(0.575))]
    assert fuse(near, worded, Fusion("weighted", 1, 3)) == [(2, pytest.approx(0.725)), (1, pytest.approx(0.225))]


WORDS = "The pump, and the VALVE of a user; used by US. Use it! pumps_the reset naïve"
PROSE = st.lists(st.sampled_from(WORDS.split(" ")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.lists(PROSE, min_size=3, max_size=12), st.sampled_from(["pump valve", "the reset of naive pumps", "valve"]))
def test_leaving_stop_words_out_changes_no_rank(texts: list[list[str]], query: str) -> None:
    """Neither which passages are found nor their bm25, to the last digit."""
    answers = []
    for prune in (False, True):
        with closing(apsw.Connection(":memory:")) as db:
            db.execute(TABLES)
            indexed = pruner(db) if prune else str
            for row, text in enumerate(texts, start=1):
                db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (row, indexed(" ".join(text))))
            expression = words(db, query, len(texts)).expression
            sql = "SELECT rowid, rank FROM words WHERE words MATCH ? ORDER BY rank, rowid"
            answers.append(db.execute(sql, (expression,)).fetchall() if expression else [])
    assert answers[0] == answers[1]


def test_only_whole_stop_words_are_left_out() -> None:
    with closing(apsw.Connection(":memory:")) as db:
        db.execute(TABLES)
        assert pruner(db)("The other theory: a_theme of à la carte, U.S.") == (
            "\ue000 other theory: \ue000_theme \ue000 à la carte, U.S."
        )
        db.execute("INSERT INTO words (rowid, text) VALUES (1, ?)", (pruner(db)("to be or not to be"),))
        assert words(db, "to be or not to be", 1).expression == ""
        assert words(db, "be", 1).expression == ""
