"""Whatever a client sends, the answer is never a 5xx, and an error always has OpenAI's shape."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsbuild_runtime.app import App
from runtime_asking import Answer, asked
from small_services import small_manifest

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/vector_stores/manuals/search")
MODELS = st.sampled_from(["org/parrot", "letters", "helper", "nobody", ""])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
CONTENT = st.one_of(
    st.text(max_size=30), st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=9)}))
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool", "developer", "x"])},
    optional={"content": CONTENT | JSON, "name": JSON, "tool_calls": JSON, "tool_call_id": JSON},
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "messages": st.lists(MESSAGE, max_size=3) | JSON,
    "prompt": st.text(max_size=20) | st.lists(st.integers(-2, 9) | st.text(max_size=3), max_size=4) | JSON,
    "input": st.text(max_size=20) | st.lists(st.integers(-2, 9) | st.text(max_size=3), max_size=4) | JSON,
    "query": st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=3) | JSON,
    "filters": st.fixed_dictionaries(
        {"type": st.sampled_from(["eq", "in", "and", "gt"])}, optional={"key": JSON, "value": JSON, "filters": JSON}
    ),
    "n": st.integers(-1, 3),
    "max_tokens": st.integers(-1, 5),
    "stop": st.text(max_size=3) | st.lists(st.text(max_size=2), max_size=5),
    "seed": st.integers(),
    "logit_bias": st.dictionaries(st.integers().map(str) | st.text(max_size=3), st.floats(allow_nan=False), max_size=2),
    "logprobs": st.booleans() | st.integers(-1, 6),
    "top_logprobs": st.integers(-1, 21),
    "echo": st.booleans(),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans() | JSON}),
    "temperature": st.floats(allow_nan=False, allow_infinity=False),
    "tools": JSON,
    "tool_choice": JSON,
    "response_format": JSON,
    "dimensions": st.integers(-1, 30),
    "encoding_format": st.sampled_from(["float", "base64", "x"]),
    "max_num_results": st.integers(-1, 60),
    "chat_template_kwargs": JSON,
    "anything": JSON,
}
BODY = st.fixed_dictionaries({}, optional={"model": MODELS | JSON, **FIELDS})


def check(answer: Answer) -> None:
    """No 5xx; errors in OpenAI's shape."""
    assert answer.status < 500, answer.body
    if answer.status != 200:
        assert answer.error["message"]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> App:
    """An application of its own."""
    return App(small_manifest(), tmp_path_factory.mktemp("fuzzed"))


careful = functools.partial(
    settings, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@careful(max_examples=150)
@given(path=st.sampled_from(PATHS), body=BODY)
def test_objects_with_known_and_unknown_fields(fuzzed: App, path: str, body: dict[str, Any]) -> None:
    check(asked(fuzzed, "POST", path, body))


@careful(max_examples=100)
@given(
    path=st.sampled_from(PATHS),
    base=st.sampled_from([
        {"model": "org/parrot", "messages": [{"role": "user", "content": "a b"}], "prompt": "a b"},
        {"model": "helper", "messages": [{"role": "user", "content": "red pump [1]"}]},
        {"model": "letters", "input": "a b"},
        {"query": "pump"},
    ]),
    change=st.fixed_dictionaries({}, optional=FIELDS),
)  # fmt: skip
def test_right_requests_with_a_few_fields_changed(
    fuzzed: App, path: str, base: dict[str, Any], change: dict[str, Any]
) -> None:
    own = {"/v1/chat/completions": "messages", "/v1/completions": "prompt", "/v1/embeddings": "input"}.get(
        path, "query"
    )
    body = {name: value for name, value in base.items() if name in ("model", own)}
    check(asked(fuzzed, "POST", path, {**body, **change}))


@careful(max_examples=60)
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=60))
def test_bytes(fuzzed: App, path: str, body: bytes) -> None:
    check(asked(fuzzed, "POST", path, body))


@careful(max_examples=60)
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "X"]),
    path=st.text(max_size=20).map(lambda text: "/v1/" + text)
    | st.sampled_from([*PATHS, "/v1/models/x", "/v1/vector_stores/x"]),
    query=st.dictionaries(st.text(max_size=5) | st.just("limit"), st.text(max_size=5), max_size=2),
    headers=st.dictionaries(st.sampled_from(["content-type", "x-request-id"]), st.text(max_size=9)),
)
def test_paths_queries_and_headers(
    fuzzed: App, method: str, path: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    answer = asked(fuzzed, method, path, {"model": "x"}, query, headers)
    assert answer.status < 500
    assert answer.headers["x-request-id"].isprintable()
