"""Bad requests: each is a 4xx that names the parameter; none is a 5xx and none is silently accepted."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_asking import Ask

CHAT, TEXT, EMBED, SEARCH = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/vector_stores/manuals/search",
)
USER = {"role": "user", "content": "x"}
LOOK = {"type": "function", "function": {"name": "look"}}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}

GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"model": "org/parrot", "messages": [USER]},
    TEXT: {"model": "org/parrot", "prompt": "x"},
    EMBED: {"model": "letters", "input": "x"},
    SEARCH: {"query": "x"},
}
MISSING = object()

WRONG: list[tuple[str, dict[str, Any], str, int]] = [
    (CHAT, {"model": MISSING}, "model", 400),
    (CHAT, {"model": None}, "model", 400),
    (CHAT, {"model": 7}, "model", 400),
    (CHAT, {"model": "nobody"}, "model", 404),
    (CHAT, {"model": "letters"}, "model", 400),
    (CHAT, {"messages": MISSING}, "messages", 400),
    (CHAT, {"messages": []}, "messages", 400),
    (CHAT, {"messages": "hello"}, "messages", 400),
    (CHAT, {"messages": [USER, {"role": "user"}]}, "messages[1].content", 400),
    (CHAT, {"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", 400),
    (CHAT, {"messages": [{"content": "x"}]}, "messages[0].role", 400),
    (CHAT, {"messages": [{"role": "user", "content": None}]}, "messages[0].content", 400),
    (CHAT, {"messages": [{**USER, "mood": "good"}]}, "messages[0].mood", 400),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages[0].content[0].type", 400),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", 400),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
        "messages[0].content[0].type",
        400,
    ),
    (CHAT, {"messages": [{"role": "assistant"}, USER]}, "messages[0].content", 400),
    (CHAT, {"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id", 400),
    (
        CHAT,
        {"messages": [USER, {"role": "tool", "tool_call_id": "z", "content": "x"}]},
        "messages[1].tool_call_id",
        400,
    ),
    (CHAT, {"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role", 400),
    (CHAT, {"temperature": 2.1}, "temperature", 400),
    (CHAT, {"temperature": -1}, "temperature", 400),
    (CHAT, {"temperature": "hot"}, "temperature", 400),
    (CHAT, {"top_p": 1.5}, "top_p", 400),
    (CHAT, {"top_k": -1}, "top_k", 400),
    (CHAT, {"n": 0}, "n", 400),
    (CHAT, {"n": 129}, "n", 400),
    (CHAT, {"n": 1.5}, "n", 400),
    (CHAT, {"max_tokens": 0}, "max_tokens", 400),
    (CHAT, {"max_tokens": "many"}, "max_tokens", 400),
    (CHAT, {"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", 400),
    (CHAT, {"max_completion_tokens": 0}, "max_completion_tokens", 400),
    (CHAT, {"stop": ["a", "b", "c", "d", "e"]}, "stop", 400),
    (CHAT, {"stop": ""}, "stop", 400),
    (CHAT, {"stop": 3}, "stop", 400),
    (CHAT, {"seed": 2**63}, "seed", 400),
    (CHAT, {"seed": "x"}, "seed", 400),
    (CHAT, {"logit_bias": {"1": 101}}, "logit_bias[...]", 400),
    (CHAT, {"logit_bias": {"one": 1}}, "logit_bias", 400),
    (CHAT, {"logit_bias": {"-1": 1}}, "logit_bias", 400),
    (CHAT, {"presence_penalty": 3}, "presence_penalty", 400),
    (CHAT, {"frequency_penalty": -3}, "frequency_penalty", 400),
    (CHAT, {"top_logprobs": 2}, "top_logprobs", 400),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", 400),
    (CHAT, {"stream_options": {"include_usage": True}}, "stream_options", 400),
    (CHAT, {"stream": True, "stream_options": {"speed": 1}}, "stream_options.speed", 400),
    (CHAT, {"stream": "yes"}, "stream", 400),
    (CHAT, {"store": True}, "store", 400),
    (CHAT, {"modalities": ["audio"]}, "modalities[0]", 400),
    (CHAT, {"audio": {"voice": "a"}}, "audio", 400),
    (CHAT, {"functions": [{"name": "f"}]}, "functions", 400),
    (CHAT, {"reasoning_effort": "high"}, "reasoning_effort", 400),
    (CHAT, {"web_search_options": {}}, "web_search_options", 400),
    (CHAT, {"service_tier": "priority"}, "service_tier", 400),
    (CHAT, {"surprise": 1}, "surprise", 400),
    (CHAT, {"surprise": 1, "temperature": 9}, "surprise", 400),
    (CHAT, {"chat_template_kwargs": {}, "temperature": 9}, "temperature", 400),
    (CHAT, {"metadata": {"a": 1}}, "metadata[...]", 400),
    (CHAT, {"tools": [{"type": "function"}]}, "tools[0].function", 400),
    (CHAT, {"tools": [{"type": "code_interpreter"}]}, "tools[0].type", 400),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", 400),
    (CHAT, {"tool_choice": "required"}, "tool_choice", 400),
    (CHAT, {"tool_choice": "sometimes"}, "tool_choice", 400),
    (CHAT, {"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "go"}}}, "tool_choice", 400),
    (CHAT, {"response_format": {"type": "xml"}}, "response_format.type", 400),
    (CHAT, {"response_format": {"type": "json_schema"}}, "response_format.json_schema", 400),
    (TEXT, {"prompt": MISSING}, "prompt", 400),
    (TEXT, {"prompt": None}, "prompt", 400),
    (TEXT, {"prompt": []}, "prompt", 400),
    (TEXT, {"prompt": ["a", 1]}, "prompt", 400),
    (TEXT, {"prompt": [[]]}, "prompt", 400),
    (TEXT, {"prompt": [-1]}, "prompt", 400),
    (TEXT, {"prompt": [2**31]}, "prompt", 400),
    (TEXT, {"prompt": [[-1]]}, "prompt[0][0]", 400),
    (TEXT, {"prompt": ["x"] * 65}, "prompt", 400),
    (TEXT, {"suffix": "end"}, "suffix", 400),
    (TEXT, {"best_of": 2}, "best_of", 400),
    (TEXT, {"max_tokens": 0}, "max_tokens", 400),
    (TEXT, {"logprobs": 6}, "logprobs", 400),
    (TEXT, {"model": "helper"}, "model", 400),
    (TEXT, {"messages": [USER]}, "messages", 400),
    (EMBED, {"model": "org/parrot"}, "model", 400),
    (EMBED, {"model": "nobody"}, "model", 404),
    (EMBED, {"input": MISSING}, "input", 400),
    (EMBED, {"input": None}, "input", 400),
    (EMBED, {"input": ""}, "input", 400),
    (EMBED, {"input": []}, "input", 400),
    (EMBED, {"input": ["a", ""]}, "input[1]", 400),
    (EMBED, {"input": ["a", 1]}, "input", 400),
    (EMBED, {"input": [[1], []]}, "input[1]", 400),
    (EMBED, {"input": [[-5]]}, "input", 400),
    (EMBED, {"input": ["a"] * 2049}, "input", 400),
    (EMBED, {"input": "x" * 10_001}, "input", 400),
    (EMBED, {"dimensions": 0}, "dimensions", 400),
    (EMBED, {"dimensions": 27}, "dimensions", 400),
    (EMBED, {"dimensions": None}, "dimensions", 400),
    (EMBED, {"encoding_format": "hex"}, "encoding_format", 400),
    (EMBED, {"encoding_format": None}, "encoding_format", 400),
    (SEARCH, {"query": MISSING}, "query", 400),
    (SEARCH, {"query": ""}, "query", 400),
    (SEARCH, {"query": []}, "query", 400),
    (SEARCH, {"query": ["x"] * 17}, "query", 400),
    (SEARCH, {"max_num_results": 0}, "max_num_results", 400),
    (SEARCH, {"max_num_results": 51}, "max_num_results", 400),
    (SEARCH, {"rewrite_query": True}, "rewrite_query", 400),
    (SEARCH, {"search_mode": "psychic"}, "search_mode", 400),
    (SEARCH, {"ranking_options": {"score_threshold": 2}}, "ranking_options.score_threshold", 400),
    (SEARCH, {"ranking_options": {"alpha": 0.5}}, "ranking_options.alpha", 400),
    (SEARCH, {"ranking_options": {"ranker": "mine"}}, "ranking_options.ranker", 400),
    (SEARCH, {"filters": {"type": "like", "key": "a", "value": "b"}}, "filters.type", 400),
    (SEARCH, {"filters": {"type": "eq", "value": "b"}}, "filters.key", 400),
    (SEARCH, {"filters": {"type": "eq", "key": "a"}}, "filters.value", 400),
    (SEARCH, {"filters": {"type": "eq", "key": "a", "value": ["b"]}}, "filters.value", 400),
    (SEARCH, {"filters": {"type": "in", "key": "a", "value": "b"}}, "filters.value", 400),
    (SEARCH, {"filters": {"type": "gt", "key": "a", "value": True}}, "filters.value", 400),
    (SEARCH, {"filters": {"type": "eq", "key": "a", "value": 1, "filters": []}}, "filters.filters", 400),
    (SEARCH, {"filters": {"type": "and", "filters": []}}, "filters.filters", 400),
    (SEARCH, {"filters": {"type": "or", "filters": [{"type": "eq"}]}}, "filters.filters[0].key", 400),
]


@pytest.mark.parametrize(("path", "change", "param", "status"), WRONG)
def test_a_wrong_request_names_its_parameter(
    ask: Ask, path: str, change: dict[str, Any], param: str, status: int
) -> None:
    body = {name: value for name, value in {**GOOD[path], **change}.items() if value is not MISSING}
    answer = ask("POST", path, body)
    assert (answer.status, answer.error["param"]) == (status, param), answer.error
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["message"]


@pytest.mark.parametrize("path", GOOD)
def test_the_request_that_they_are_made_of_is_right(ask: Ask, path: str) -> None:
    assert ask("POST", path, GOOD[path]).status == 200


NOT_JSON = [b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b'{"model":"\xff"}', b'{"model":"\\ud800"}', b"{'a':1}",
            b"[" * 100_000, b'{"messages":' + b"[" * 100_000, b'{"filters":' + b'{"type":"and","filters":[' * 20_000,
            b'{"query":"x","filters":' + b'{"type":"and","filters":[' * 20 + b'{"type":"eq","key":"a","value":1}' + b"]}" * 20
            + b"}", b'{"model": NaN}', b'{"temperature": 1e999, "model": "m", "messages": []}', b"{} {}", b"\x00"]  # fmt: skip


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
def test_what_is_not_the_right_json_is_400(ask: Ask, path: str, body: bytes) -> None:
    answer = ask("POST", path, body)
    assert answer.status == 400
    assert len(answer.error["message"]) < 700


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_another_content_type_is_415(ask: Ask, kind: str) -> None:
    answer = ask("POST", CHAT, GOOD[CHAT], headers={"content-type": kind})
    assert answer.status == 415
    assert kind in answer.error["message"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", ""])
def test_these_content_types_are_json(ask: Ask, kind: str) -> None:
    assert ask("POST", CHAT, GOOD[CHAT], headers={"content-type": kind} if kind else {}).status == 200


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/v1/models", {"page": "2"}, "page"),
        ("/v1/vector_stores", {"limit": "0"}, "limit"),
        ("/v1/vector_stores", {"limit": "101"}, "limit"),
        ("/v1/vector_stores", {"limit": "²"}, "limit"),
        ("/v1/vector_stores", {"limit": "9" * 5000}, "limit"),
        ("/v1/vector_stores", {"order": "random"}, "order"),
        ("/v1/vector_stores", {"after": "nobody"}, "after"),
        ("/v1/vector_stores", {"before": "nobody"}, "before"),
    ],
)
def test_a_wrong_query_parameter_is_named(ask: Ask, path: str, query: dict[str, str], param: str) -> None:
    answer = ask("GET", path, query=query)
    assert (answer.status, answer.error["param"]) == (400, param)


def test_an_unknown_store_is_404(ask: Ask) -> None:
    assert ask("POST", "/v1/vector_stores/nobody/search", {"query": "x"}).error["code"] == "vector_store_not_found"
    assert ask("GET", "/v1/vector_stores/nobody").status == 404


def test_long_values_are_not_sent_back_whole(ask: Ask) -> None:
    long = "x" * 50_000
    for body in ({**GOOD[CHAT], long: 1}, {**GOOD[CHAT], "model": long}, {**GOOD[CHAT], "tool_choice": long}):
        assert len(ask("POST", CHAT, body).body) < 2000
