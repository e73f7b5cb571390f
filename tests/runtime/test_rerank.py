"""Rerank models on the wire, with a real cross-encoder whose weights say its order; searches that go through it."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lsbuild_runtime.app import App
from lsbuild_runtime.manifest import Service
from overlap_reranker import compile_overlap
from runtime_asking import Ask, asked
from small_services import HELPER, LETTERS, PARROT, SHELF, small_manifest

WORDS = ["the", "red", "blue", "pump", "needs", "oil", "every", "week", "no", "a", "valve", "closes", "slowly"]
RERANK, ITEMS, SEARCH = "/v1/rerank", "/v1alpha/inference/rerank", "/v1/vector_stores/manuals/search"
QUERY = "red pump oil"
DOCUMENTS = [
    "a valve closes slowly",
    "the red pump needs oil every week",
    "red oil pump",
    {"text": "the blue pump needs no oil"},
]
ORDER = [2, 1, 3, 0]
JUDGE = Service(
    api="rerank", name="judge", provider="inline::onnx", entry="lsbuild_plugins.onnx.serve.reranker:open_reranker",
    path="model", config={"threads": 1}, metadata={"model_type": "rerank"},
)  # fmt: skip
RANKED = replace(SHELF, config={"rerank": "judge", "rewrite": "org/parrot"})
PLAIN = replace(SHELF, name="plain")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    root = tmp_path_factory.mktemp("bundle")
    compile_overlap(root, WORDS)
    return functools.partial(asked, App(small_manifest((PARROT, LETTERS, JUDGE, RANKED, PLAIN, HELPER)), root))


def rerank(**changes: Any) -> dict[str, Any]:
    return {"model": "judge", "query": QUERY, "documents": DOCUMENTS, **changes}


def items(**changes: Any) -> dict[str, Any]:
    return {"model": "judge", "query": QUERY, "items": ["valve", "red pump"], **changes}


def test_documents_come_back_in_order(ask: Ask) -> None:
    body = ask("POST", RERANK, rerank()).json
    assert (body["object"], body["model"], body["id"][:7]) == ("list", "judge", "rerank-")
    assert [result["index"] for result in body["results"]] == ORDER
    scores = [result["relevance_score"] for result in body["results"]]
    assert scores == sorted(scores, reverse=True) and 0 < scores[-1] < 0.1 and 0.9 < scores[0] < 1
    assert all(set(result) == {"index", "relevance_score"} for result in body["results"])
    assert body["usage"] == {"prompt_tokens": 4 * 6 + 4 + 7 + 3 + 6, "total_tokens": 44}


def test_a_few_of_them_with_their_texts(ask: Ask) -> None:
    results = ask("POST", RERANK, rerank(top_n=2, return_documents=True)).json["results"]
    assert [result["document"] for result in results] == [{"text": DOCUMENTS[2]}, {"text": DOCUMENTS[1]}]
    last = ask("POST", RERANK, rerank(top_n=9, return_documents=True)).json["results"][2]
    assert last["document"] == {"text": "the blue pump needs no oil"}


def test_llama_stack_s_words(ask: Ask) -> None:
    body = ask("POST", ITEMS, items(items=[*DOCUMENTS[:3], {"type": "text", "text": "valve"}])).json
    assert list(body) == ["data"]
    assert [set(result) for result in body["data"]] == [{"index", "relevance_score"}] * 4
    assert [result["index"] for result in body["data"]][:2] == [2, 1]
    part = {"type": "text", "text": QUERY}
    assert [result["index"] for result in ask("POST", ITEMS, items(query=part, max_num_results=1)).json["data"]] == [1]


@pytest.mark.parametrize(
    ("path", "body", "param", "status"),
    [
        (RERANK, rerank(model="nobody"), "model", 404),
        (RERANK, rerank(model="letters"), "model", 400),
        (RERANK, rerank(model="org/parrot"), "model", 400),
        (RERANK, rerank(query=""), "query", 400),
        (RERANK, rerank(query=" \n"), "query", 400),
        (RERANK, rerank(query="red " * 40), "query", 400),
        (RERANK, rerank(query=["a"]), "query", 400),
        (RERANK, rerank(documents=[]), "documents", 400),
        (RERANK, rerank(documents="red"), "documents", 400),
        (RERANK, rerank(documents=["red"] * 1001), "documents", 400),
        (RERANK, rerank(documents=["red", 7]), "documents[1]", 400),
        (RERANK, rerank(documents=[{"text": "red", "image": "x"}]), "documents[0].image", 400),
        (RERANK, rerank(top_n=0), "top_n", 400),
        (RERANK, rerank(top_n=1.5), "top_n", 400),
        (RERANK, rerank(max_chunks_per_doc=3), "max_chunks_per_doc", 400),
        (RERANK, {"model": "judge", "query": "x"}, "documents", 400),
        (ITEMS, items(items=[]), "items", 400),
        (ITEMS, items(items=[{"type": "image_url", "text": ""}]), "items[0].type", 400),
        (ITEMS, items(query={"type": "image_url", "image_url": {"url": "x"}}), "query.type", 400),
        (ITEMS, items(max_num_results=0), "max_num_results", 400),
        (ITEMS, rerank(), "documents", 400),
        ("/v1/embeddings", {"model": "judge", "input": "x"}, "model", 400),
        ("/v1/completions", {"model": "judge", "prompt": "x"}, "model", 400),
        ("/v1/chat/completions", {"model": "judge", "messages": [{"role": "user", "content": "x"}]}, "model", 400),
    ],
)
def test_what_cannot_be_ranked_is_refused(ask: Ask, path: str, body: Any, param: str, status: int) -> None:
    answer = ask("POST", path, body)
    assert (answer.status, answer.error["param"]) == (status, param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nul",
        b'{"model": "judge", "query": "\xff", "documents": ["a"]}',
        b'{"model": "judge", "query": "\\ud83d", "documents": ["a"]}',
        b'{"model": "judge", "query": "a", "documents": ["\\ude00"]}',
    ],
)
def test_what_is_no_request(ask: Ask, body: bytes) -> None:
    assert ask("POST", RERANK, body).status == 400
    assert ask("POST", ITEMS, body).status == 400


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
TEXTS = st.lists(st.text(max_size=30) | st.fixed_dictionaries({"text": st.text(max_size=9)}) | JSON, max_size=4)
FIELDS = {
    "model": st.sampled_from(["judge", "judge", "letters", "helper", ""]) | JSON,
    "query": st.text(max_size=40) | JSON,
    "documents": TEXTS | JSON,
    "items": TEXTS | JSON,
    "top_n": st.integers(-1, 5) | JSON,
    "max_num_results": st.integers(-1, 5) | JSON,
    "return_documents": st.booleans() | JSON,
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([RERANK, ITEMS]),
    kept=st.sets(st.sampled_from(sorted(FIELDS))),
    body=st.fixed_dictionaries(FIELDS),
)
def test_whatever_is_sent_is_answered(ask: Ask, path: str, kept: set[str], body: dict[str, Any]) -> None:
    own = {"model", "query", "documents" if path == RERANK else "items"}
    answer = ask("POST", path, {name: value for name, value in body.items() if name in kept | own})
    assert answer.status in (200, 400, 404)
    if answer.status != 200:
        assert answer.error["message"]


def test_odd_texts_have_scores(ask: Ask) -> None:
    odd = ["", "\0", "\U0001f600" * 3, "ß" * 10_000, "red\u202epump"]
    body = ask("POST", RERANK, rerank(documents=odd)).json
    assert sorted(result["index"] for result in body["results"]) == list(range(5))


def test_it_is_a_model_of_its_own_type(ask: Ask) -> None:
    found = ask("GET", "/v1/models/judge").json
    assert (found["model_type"], found["custom_metadata"]["model_type"]) == ("rerank", "rerank")
    assert "judge" in [model["id"] for model in ask("GET", "/v1/models").json["data"]]
    routes = ask("GET", "/v1/openapi.json").json["paths"]
    assert {RERANK, ITEMS} <= set(routes)


def _texts(ask: Ask, store: str = "manuals", **body: Any) -> list[str]:
    answer = ask("POST", f"/v1/vector_stores/{store}/search", {"query": "the needs blue", **body})
    assert answer.status == 200, answer.body
    return [result["content"][0]["text"] for result in answer.json["data"]]


BY_STORE = ["The blue pump needs no oil.", "The red pump needs oil every week."]
"""By the share of the query's words that are in the passage: 3/3 and 2/3; the valve has none."""


def test_scores_are_the_model_s(ask: Ask) -> None:
    query = "the blue pump needs no oil . pumps"
    found = ask("POST", SEARCH, {"query": query}).json["data"]
    assert found[0]["content"][0]["text"] == BY_STORE[0]
    texts = [f"{result['attributes']['heading']}\n{result['content'][0]['text']}" for result in found]
    scored = ask("POST", RERANK, {"model": "judge", "query": query, "documents": texts}).json["results"]
    assert [result["score"] for result in found] == pytest.approx([result["relevance_score"] for result in scored])
    assert found[0]["score"] > 0.9


def test_the_model_turns_the_store_s_order_around(ask: Ask) -> None:
    query = "a valve closes slowly the red pump oil week"
    red, valve = BY_STORE[1], "A valve closes slowly."
    # The store counts the query's words in the passage (5 and 4 of 9), the model the passage's in the query (5/9, 4/6).
    assert _texts(ask, query=query, ranking_options={"ranker": "none"})[:2] == [red, valve]
    assert _texts(ask, query=query)[:2] == [valve, red]
    assert _texts(ask, query=query, max_num_results=1) == [valve]


@pytest.mark.parametrize("ranker", ["auto", "neural", "default-2024-11-15"])
def test_rankers_that_leave_the_last_word_to_the_model(ask: Ask, ranker: str) -> None:
    options = {"ranker": ranker, "score_threshold": 0.5}
    strict = ask("POST", SEARCH, {"query": "valve", "ranking_options": options}).json["data"]
    assert strict == []  # one of four words is in the query; for the store it is all of the query's
    options = {"ranker": "none", "score_threshold": 0.5}
    assert len(ask("POST", SEARCH, {"query": "valve", "ranking_options": options}).json["data"]) == 1


@pytest.mark.parametrize("ranker", ["none", "rrf", {"type": "weighted"}])
def test_rankers_that_turn_it_off(ask: Ask, ranker: Any) -> None:
    found = ask("POST", SEARCH, {"query": "valve", "ranking_options": {"ranker": ranker}}).json["data"]
    assert [result["score"] for result in found] == [1.0]


def test_what_the_store_has_no_model_for_is_refused_with_the_key(ask: Ask) -> None:
    path = "/v1/vector_stores/plain/search"
    answer = ask("POST", path, {"query": "pump", "ranking_options": {"ranker": "neural"}})
    assert (answer.status, answer.error["param"]) == (400, "ranking_options.ranker")
    assert "vector_stores.plain.rerank" in answer.error["message"]
    answer = ask("POST", path, {"query": "pump", "rewrite_query": True})
    assert (answer.status, answer.error["param"]) == (400, "rewrite_query")
    assert "vector_stores.plain.rewrite" in answer.error["message"]


def test_a_rewritten_search_says_what_it_searched(ask: Ask) -> None:
    # The parrot repeats its prompt: the question's own line is the one query in it.
    page = ask("POST", SEARCH, {"query": "red pump?", "rewrite_query": True}).json
    assert page["search_query"] == ["Question: red pump?"]
    assert page["data"][0]["content"][0]["text"] == BY_STORE[1]
    assert ask("POST", SEARCH, {"query": "red pump?"}).json["search_query"] == ["red pump?"]


def test_llama_stack_s_query_goes_the_same_way(ask: Ask) -> None:
    body = {"vector_store_id": "manuals", "query": "valve", "params": {"score_threshold": 0.5}}
    assert ask("POST", "/v1/vector-io/query", body).json["chunks"] == []
    plain = {**body, "vector_store_id": "plain"}
    assert ask("POST", "/v1/vector-io/query", plain).json["scores"] == [1.0]


def test_an_agent_shows_what_the_model_ranks_first(ask: Ask) -> None:
    # The parrot repeats the prompt it was given: passages, then the question.
    body = {"model": "helper", "messages": [{"role": "user", "content": "the needs blue no oil . pumps"}]}
    text = ask("POST", "/v1/chat/completions", body).json["choices"][0]["message"]["content"]
    assert text.startswith("[1] Pumps\nThe blue pump needs no oil.")
