"""Around a store's search: what a reranker and a rewriting model change, what they cost, what happens when they fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from lsbuild_runtime.agents.service import Agent, Settings
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Completion, Delta, Fusion, Hit, Sampling, Scores, SearchMode, StoreInfo
from lsbuild_runtime.retrieve import (
    DEEPEST,
    LONGEST_QUERY,
    REWRITE_TOKENS,
    Models,
    Ranking,
    models_around,
    queries_of,
    search,
)
from lsbuild_runtime.watch import JsonWatch


def hit(name: str, score: float, heading: str = "") -> Hit:
    return Hit(name, f"file-{name}", f"{name}.md", f"text {name}", score, heading)


class Ranked:
    """A store that knows for each query what it finds, best first; it remembers how it was asked."""

    def __init__(self, **found: Sequence[Hit]) -> None:
        self.found = found
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def info(self) -> StoreInfo:
        raise NotImplementedError

    def search(
        self, query: str, context: Context, *, limit: int = 10, mode: SearchMode | None = None,  # noqa: ARG002
        filters: Mapping[str, Any] | None = None, threshold: float = 0.0, fusion: Fusion | None = None,
    ) -> list[Hit]:  # fmt: skip
        asked = {"limit": limit, "mode": mode, "filters": filters, "threshold": threshold, "fusion": fusion}
        self.asked.append((query, asked))
        return [one for one in self.found.get(query, ()) if one.score >= threshold][:limit]


class Judge:
    """A reranker that knows the scores of texts."""

    def __init__(self, most: int = 100, **scores: float) -> None:
        self.scores = scores
        self.most = most
        self.read: list[tuple[str, list[str]]] = []

    def score(self, query: str, passages: Sequence[str], context: Context) -> Scores:
        context.check()
        if len(query) > self.most:
            raise ApiError(400, "the query is too long", param="query", code="context_length_exceeded")
        self.read.append((query, list(passages)))
        return Scores(tuple(self.scores[text.split()[-1]] for text in passages), len(passages))


class Says:
    """A language model that says what it is told to, piece by piece."""

    def __init__(self, *pieces: str, finish: Any = "stop", error: ApiError | None = None, pace: float = 0.0) -> None:
        self.pieces, self.finish, self.error, self.pace = pieces, finish, error, pace
        self.asked: list[Chat] = []
        self.said = 0

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        self.asked.append(chat)
        if self.error is not None:
            raise self.error
        for piece in self.pieces:
            context.check()
            self.said += 1
            yield Delta(text=piece)
            time.sleep(self.pace)
        yield Delta(finish=self.finish)

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        raise NotImplementedError


class House:
    """A host of models."""

    def __init__(self, **models: Any) -> None:
        self.models = models

    def get(self, api: str, name: str) -> Any:
        if f"{api}_{name}" not in self.models:
            raise ApiError(503, f"{api}/{name} cannot be opened", type="server_error", code="service_unavailable")
        return self.models[f"{api}_{name}"]

    def find(self, apis: Any, name: str) -> Service | None:
        raise NotImplementedError

    def state(self, name: str) -> Any:
        raise NotImplementedError


ABCD = [hit("a", 0.9), hit("b", 0.8), hit("c", 0.7), hit("d", 0.6)]
SCORES = {"a": 0.1, "b": 0.5, "c": 0.95, "d": 0.5}


def names(hits: Sequence[Hit]) -> str:
    return "".join(one.chunk_id for one in hits)


def logged(line: str) -> dict[str, dict[str, Any]]:
    """The spans of a log line by name."""
    return {span["name"]: span for span in msgspec.json.decode(line).get("spans", ())}


def test_without_models_a_search_is_passed_on() -> None:
    store = Ranked(q=ABCD)
    ranking = Ranking("hybrid", Fusion("weighted", 0.2, 0.8), 0.65)
    lines: list[str] = []
    watch = JsonWatch("r", lines.append)
    with watch.span("request"):
        found = search(store, ["q"], Context(watch=watch), 2, ranking, {"type": "eq", "key": "k", "value": 1})
    assert found == ABCD[:2] and not logged(lines[0])
    assert store.asked == [
        (
            "q",
            {
                "limit": 2,
                "mode": "hybrid",
                "fusion": Fusion("weighted", 0.2, 0.8),
                "threshold": 0.65,
                "filters": {"type": "eq", "key": "k", "value": 1},
            },
        )
    ]


def test_several_queries_give_each_passage_once_with_its_best_score() -> None:
    store = Ranked(p=[hit("a", 0.5), hit("b", 0.4)], q=[hit("b", 0.9), hit("c", 0.5)])
    found = search(store, ["p", "q"], Context(), 2, Ranking())
    assert [(one.chunk_id, one.score) for one in found] == [("b", 0.9), ("a", 0.5)]


def test_the_order_becomes_the_reranker_s() -> None:
    store, judge = Ranked(q=ABCD), Judge(**SCORES)
    found = search(store, ["q"], Context(), 3, Ranking(), reranker=judge)
    assert [(one.chunk_id, one.score) for one in found] == [("c", 0.95), ("b", 0.5), ("d", 0.5)]  # ties: the store's
    assert store.asked[0][1]["limit"] == 12


@pytest.mark.parametrize(("limit", "deep"), [(1, 4), (10, 40), (25, 100), (50, DEEPEST), (300, 300)])
def test_a_reranker_reads_deeper_but_not_without_end(limit: int, deep: int) -> None:
    many = [hit(f"n{number}", 1 - number / 1000) for number in range(400)]
    store, judge = Ranked(q=many), Judge(**{one.chunk_id: 1 - one.score for one in many})
    found = search(store, ["q"], Context(), limit, Ranking(), reranker=judge)
    assert store.asked[0][1]["limit"] == len(judge.read[0][1]) == deep
    assert found[0].chunk_id == f"n{deep - 1}" and len(found) == limit


def test_the_threshold_is_of_the_final_score() -> None:
    store = Ranked(q=ABCD)
    found = search(store, ["q"], Context(), 4, Ranking(threshold=0.5), reranker=Judge(**SCORES))
    assert names(found) == "cbd"
    low = Ranked(q=[hit("c", 0.01)])
    assert names(search(low, ["q"], Context(), 4, Ranking(threshold=0.5), reranker=Judge(**SCORES))) == "c"


def test_a_passage_is_scored_with_the_query_that_found_it_best() -> None:
    store = Ranked(p=[hit("a", 0.5), hit("b", 0.4)], q=[hit("b", 0.9), hit("c", 0.3)])
    judge = Judge(**SCORES)
    assert names(search(store, ["p", "q"], Context(), 3, Ranking(), reranker=judge)) == "cba"
    assert judge.read == [("p", ["text a"]), ("q", ["text b", "text c"])]


def test_the_same_query_twice_gives_each_passage_once() -> None:
    judge = Judge(**SCORES)
    assert names(search(Ranked(q=ABCD), ["q", "q"], Context(), 4, Ranking(), reranker=judge)) == "cbda"
    assert len(judge.read) == 1


def test_several_queries_together_are_as_deep_as_one() -> None:
    lists = {name: [hit(f"{name}{number}", 0.5) for number in range(100)] for name in "pqr"}
    judge = Judge(**{one.chunk_id: 0.5 for found in lists.values() for one in found})
    search(Ranked(**lists), ["p", "q", "r"], Context(), 10, Ranking(), reranker=judge)
    assert sum(len(texts) for _, texts in judge.read) == 40


def test_a_reranker_reads_the_heading_too() -> None:
    judge = Judge(a=0.5)
    search(Ranked(q=[hit("a", 0.5, "Guide > Install")]), ["q"], Context(), 1, Ranking(), reranker=judge)
    assert judge.read == [("q", ["Guide > Install\ntext a"])]


def test_nothing_found_is_nothing_to_read() -> None:
    judge = Judge()
    assert search(Ranked(), ["q"], Context(), 3, Ranking(), reranker=judge) == [] and judge.read == []


def test_a_query_too_long_for_the_reranker_leaves_the_store_s_order() -> None:
    lines: list[str] = []
    watch = JsonWatch("r", lines.append)
    query = "q" * 9
    with watch.span("request"), watch.span("search"):
        store = Ranked(**{query: ABCD})
        found = search(
            store, [query], Context(watch=watch), 2, Ranking(threshold=0.85), reranker=Judge(most=8, **SCORES)
        )
    assert names(found) == "a"
    assert logged(lines[0])["rerank"]["lsbuild.rerank.skipped"] == "context_length_exceeded"
    assert logged(lines[0])["rerank"]["lsbuild.rerank.candidates"] == 4


def test_another_failure_of_the_reranker_is_told() -> None:
    class Broken:
        def score(self, query: str, passages: Sequence[str], context: Context) -> Scores:  # noqa: ARG002
            raise ApiError(503, "broken", code="model_unavailable")

    with pytest.raises(ApiError, match="broken"):
        search(Ranked(q=ABCD), ["q"], Context(), 2, Ranking(), reranker=Broken())


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("pump oil", ("pump oil",)),
        ("pump oil\noil change interval\n", ("pump oil", "oil change interval")),
        ("1. pump oil\n2) oil interval\n(3) red pump\n", ("pump oil", "oil interval", "red pump")),
        ('- "pump oil"\n* `oil interval`\n• “red pump”', ("pump oil", "oil interval", "red pump")),
        ("Here are the queries:\n\nQuery 1: pump oil\nSearch query: red pump", ("pump oil", "red pump")),
        ("pump oil\nPump Oil\n\n---\npump  valve", ("pump oil", "pump  valve")),
        ("3 phase motor\n2024 report", ("3 phase motor", "2024 report")),
        ("x" * (LONGEST_QUERY + 1), ()),
        ("", ()),
        ("\n \n", ()),
        ("a\nb\nc\nd\ne\n", ("a", "b", "c")),
    ],
)
def test_queries_are_lines(text: str, queries: tuple[str, ...]) -> None:
    assert queries_of(iter([Delta(text=text), Delta(finish="stop")])) == queries
    assert queries_of(iter([*(Delta(text=letter) for letter in text), Delta(finish="stop")])) == queries


def test_a_cut_line_is_no_query() -> None:
    assert queries_of(iter([Delta(text="pump oil\noil chan"), Delta(finish="length")])) == ("pump oil",)
    assert queries_of(iter([Delta(text="I am going on and"), Delta(finish="length")])) == ()


def test_generating_stops_when_there_are_enough_queries() -> None:
    model = Says(*(f"query {number}\n" for number in range(50)))
    around = Models(House(inference_m=model), rewrite="m")
    assert around.queries("What?", Context()) == ("query 0", "query 1", "query 2")
    assert model.said == 3


def test_the_model_is_asked_with_bounds_and_with_what_was_said_before() -> None:
    model = Says("blue pump oil")
    around = Models(House(inference_m=model), rewrite="m")
    earlier = [
        {"role": "system", "content": "secret instructions"},
        *({"role": "user", "content": f"old {number}"} for number in range(9)),
        {"role": "assistant", "content": "The red  pump\nneeds oil. " + "x" * 1000},
        {"role": "tool", "content": "tool result"},
        {"role": "assistant", "content": None},
    ]
    assert around.queries("And the blue one?", Context(), earlier) == ("blue pump oil",)
    (chat,) = model.asked
    assert chat.sampling == Sampling(temperature=0.0, max_tokens=REWRITE_TOKENS)
    text = str(chat.messages[-1]["content"])
    assert text.endswith("Question: And the blue one?\nQueries:")
    assert "assistant: The red pump needs oil." in text and "user: old 8" in text
    assert len(text) < 1000 and not any(absent in text for absent in ("secret", "tool result", "old 3"))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Says(error=ApiError(429, "full", code="queue_full")), "queue_full"),
        (Says(error=ApiError(502, "upstream is away")), "502"),
        (Says("???"), "no_query"),
        (Says("on and on", finish="length"), "no_query"),
        (None, "service_unavailable"),
    ],
)
def test_a_model_that_fails_leaves_the_question(model: Any, why: str) -> None:
    lines: list[str] = []
    watch = JsonWatch("r", lines.append)
    host = House(inference_m=model) if model else House()
    with watch.span("request"), watch.span("inner"):
        assert Models(host, rewrite="m").queries("What?", Context(watch=watch)) == ("What?",)
    assert logged(lines[0])["rewrite_query"]["lsbuild.rewrite.failed"] == why


def test_a_slow_model_is_left_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsbuild_runtime.retrieve.REWRITE_SECONDS", 0.05)
    model = Says(*["word "] * 200, pace=0.01)
    assert Models(House(inference_m=model), rewrite="m").queries("What?", Context()) == ("What?",)
    assert 0 < model.said < 200


def test_the_request_s_own_end_is_not_mended() -> None:
    model = Says(*["word "] * 200, pace=0.01)
    around = Models(House(inference_m=model), rewrite="m")
    with pytest.raises(ApiError, match="deadline"):
        around.queries("What?", Context(deadline=time.monotonic() + 0.05))
    context = Context(cancel=threading.Event())
    context.cancel.set()
    with pytest.raises(Cancelled):
        around.queries("What?", context)


def test_models_are_those_of_the_service() -> None:
    house = House(rerank_judge=Judge(), inference_small=Says("x"))
    bare = Service(api="vector_io", name="s", provider="p", entry="")
    named = msgspec.structs.replace(bare, config={"rerank": "judge", "rewrite": "small"})
    assert models_around(bare, house).reranker() is None
    assert models_around(None, house).queries("q", Context()) == ("q",)
    assert models_around(named, house).reranker() is house.models["rerank_judge"]
    assert models_around(named, house).queries("q", Context()) == ("x",)
    assert models_around(named, house).queries("  ", Context()) == ("  ",)


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "model": "m", "instructions": "", "vector_stores": (), "passages": 2, "tokens": 64, "wall": 5.0,
        "prompt": "{passages}\n{question}", "threshold": 0.0, "keep_lines": False,
    }  # fmt: skip
    return Settings(**{**values, **changes})


def test_an_agent_searches_in_other_words_and_shows_the_reranked() -> None:
    small, answer = Says("blue pump oil"), Says("ok")
    house = House(inference_small=small, rerank_judge=Judge(**SCORES))
    stores = {"s": Ranked(**{"blue pump oil": ABCD}), "t": Ranked(**{"blue pump oil": [hit("a", 0.99)]})}
    around = {name: Models(house, "judge", "small") for name in stores}
    agent = Agent(settings(threshold=0.3), answer, stores, around)
    messages = [
        {"role": "user", "content": "Does the red pump need oil?"},
        {"role": "assistant", "content": "Yes, every week."},
        {"role": "user", "content": "And the blue one?"},
    ]
    list(agent.chat(Chat(messages), Context()))
    assert answer.asked[0].messages[-1]["content"] == "[1] text c\n[2] text b\n\nAnd the blue one?"
    assert answer.asked[0].messages[:2] == messages[:2]
    assert len(small.asked) == 1  # once for both stores
    assert "assistant: Yes, every week." in str(small.asked[0].messages[-1]["content"])


def test_an_agent_s_store_without_models_is_asked_the_question_itself() -> None:
    answer = Says("ok")
    plain, other = Ranked(**{"What?": [hit("a", 0.4)]}), Ranked(pump=[hit("c", 0.2)])
    house = House(inference_small=Says("pump"))
    agent = Agent(settings(), answer, {"s": plain, "t": other}, {"t": Models(house, rewrite="small")})
    list(agent.chat(Chat([{"role": "user", "content": "What?"}]), Context()))
    assert answer.asked[0].messages[-1]["content"] == "[1] text a\n[2] text c\n\nWhat?"
