"""Completions, embeddings and vector stores answer in OpenAI's shapes."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from runtime_asking import Ask
from small_services import DOCUMENT

TEXT, EMBED, STORES = "/v1/completions", "/v1/embeddings", "/v1/vector_stores"


def complete(prompt: Any, **more: Any) -> dict[str, Any]:
    """A request to the parrot."""
    return {"model": "org/parrot", "prompt": prompt, **more}


def embed(given: Any, **more: Any) -> dict[str, Any]:
    """A request to the letter counter."""
    return {"model": "letters", "input": given, **more}


def test_a_text_is_continued(ask: Ask) -> None:
    body = ask("POST", TEXT, complete("a b c")).json
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"text": "a b c", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"]["total_tokens"] == 6


def test_openais_default_of_sixteen_tokens_holds(ask: Ask) -> None:
    choice = ask("POST", TEXT, complete("w " * 20)).json["choices"][0]
    assert (len(choice["text"].split()), choice["finish_reason"]) == (16, "length")


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], ["w1 w2"]),
        ([[1], [2, 3]], ["w1", "w2 w3"]),
    ],
)
def test_every_form_of_prompt(ask: Ask, prompt: Any, texts: list[str]) -> None:
    body = ask("POST", TEXT, complete(prompt)).json
    assert [choice["text"] for choice in body["choices"]] == texts
    assert body["usage"]["prompt_tokens"] == sum(len(text.split()) for text in texts)


def test_choices_are_numbered_prompt_by_prompt(ask: Ask) -> None:
    body = ask("POST", TEXT, complete(["a", "b"], n=2, best_of=2)).json
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [(0, "a"), (1, "a"), (2, "b"), (3, "b")]


def test_a_streamed_completion_says_the_same(ask: Ask) -> None:
    events = ask("POST", TEXT, complete(["a b", "c"], stream=True, stream_options={"include_usage": True})).events
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 3
    texts = {0: "", 1: ""}
    for event in events[:-1]:
        texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
        assert event["usage"] is None
    assert texts == {0: "a b", 1: "c"}
    assert all("usage" not in event for event in ask("POST", TEXT, complete("a", stream=True)).events)


def test_echo_with_legacy_log_probabilities(ask: Ask) -> None:
    choice = ask("POST", TEXT, complete("a a b", echo=True, max_tokens=0, logprobs=2)).json["choices"][0]
    assert choice["text"] == "a a b"
    found = choice["logprobs"]
    assert found["tokens"] == ["a", " a", " b"]
    assert found["text_offset"] == [0, 1, 3]
    assert found["token_logprobs"][0] is None
    assert found["top_logprobs"][0] is None
    assert found["token_logprobs"][1] == pytest.approx(-1.0986, abs=1e-3)


def test_offsets_go_on_in_a_stream(ask: Ask) -> None:
    events = ask("POST", TEXT, complete("ab cd", stream=True, logprobs=1)).events
    assert [event["choices"][0]["logprobs"]["text_offset"] for event in events[:2]] == [[0], [2]]
    assert events[1]["choices"][0]["logprobs"]["top_logprobs"] == [{"ab": pytest.approx(-0.693, abs=1e-3)}]


def test_a_vector_as_numbers_and_as_base64(ask: Ask) -> None:
    numbers = ask("POST", EMBED, embed("abba")).json
    assert numbers["object"] == "list"
    assert numbers["model"] == "letters"
    assert numbers["usage"] == {"prompt_tokens": 1, "total_tokens": 1}
    vector = numbers["data"][0]["embedding"]
    assert len(vector) == 26
    coded = ask("POST", EMBED, embed("abba", encoding_format="base64")).json["data"][0]["embedding"]
    assert struct.unpack("<26f", base64.b64decode(coded)) == pytest.approx(vector)


@pytest.mark.parametrize(("given", "count"), [("a", 1), (["a", "b"], 2), ([1, 2], 1), ([[1], [2, 3]], 2), ([[0]], 1)])
def test_every_form_of_input(ask: Ask, given: Any, count: int) -> None:
    data = ask("POST", EMBED, embed(given)).json["data"]
    assert [item["index"] for item in data] == list(range(count))
    assert {item["object"] for item in data} == {"embedding"}


def test_dimensions_reach_the_encoder(ask: Ask) -> None:
    assert len(ask("POST", EMBED, embed("a", dimensions=3)).json["data"][0]["embedding"]) == 3


def test_stores_are_listed_and_described(ask: Ask) -> None:
    page = ask("GET", STORES).json
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == (
        "list",
        "manuals",
        "manuals",
        False,
    )
    store = page["data"][0]
    assert store == ask("GET", f"{STORES}/manuals").json
    assert store["usage_bytes"] == len(DOCUMENT)
    assert store["file_counts"] == {"completed": 1, "total": 1, "cancelled": 0, "failed": 0, "in_progress": 0}
    assert ask("GET", STORES, query={"after": "manuals"}).json["data"] == []
    assert ask("GET", STORES, query={"order": "desc", "limit": "1"}).json["data"] == [store]


def test_a_search_gives_openais_page(ask: Ask) -> None:
    page = ask("POST", f"{STORES}/manuals/search", {"query": "red pump", "max_num_results": 1}).json
    assert page["object"] == "vector_store.search_results.page"
    assert (page["search_query"], page["has_more"], page["next_page"]) == (["red pump"], False, None)
    assert page["data"] == [
        {
            "file_id": "file-1",
            "filename": "manual.md",
            "score": 1.0,
            "attributes": {"heading": "Pumps", "line_start": 2, "line_end": 2, "start": 8, "end": 42},
            "content": [{"type": "text", "text": "The red pump needs oil every week."}],
        }
    ]
    assert DOCUMENT[8:42] == "The red pump needs oil every week."


def test_several_queries_give_the_best_of_all(ask: Ask) -> None:
    page = ask("POST", f"{STORES}/manuals/search", {"query": ["red pump", "valve closes"], "max_num_results": 2}).json
    assert [hit["content"][0]["text"] for hit in page["data"]] == [
        "The red pump needs oil every week.",
        "A valve closes slowly.",
    ]
    assert len({hit["attributes"]["line_start"] for hit in page["data"]}) == 2


def test_filters_and_thresholds_reach_the_store(ask: Ask) -> None:
    path = f"{STORES}/manuals/search"
    heading = {"type": "eq", "key": "heading", "value": "Valves"}
    assert len(ask("POST", path, {"query": "a pump valve", "filters": heading}).json["data"]) == 1
    options = {"ranker": "auto", "score_threshold": 0.9}
    assert ask("POST", path, {"query": "red nothing", "ranking_options": options}).json["data"] == []
    harmless = {"filters": None, "ranking_options": None, "rewrite_query": False, "search_mode": "hybrid"}
    assert ask("POST", path, {"query": "pump", **harmless}).status == 200
