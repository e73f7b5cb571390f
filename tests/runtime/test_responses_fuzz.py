"""Whatever a client sends to responses and conversations, the answer is never a 5xx, and a stream ends as one should."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsbuild_runtime.app import App
from responding import events_of, opened
from runtime_asking import Answer, asked

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
ID = st.sampled_from(["msg_1", "mcpr_1", "c1", "", "x" * 200])
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["input_text", "output_text", "refusal", "input_image", "input_file", "x"])},
    optional={"text": st.text(max_size=9), "refusal": st.text(max_size=5), "image_url": JSON, "annotations": JSON},
)
KINDS = [
    "message", "function_call", "function_call_output", "file_search_call", "web_search_call", "mcp_call", "mcp_list_tools",
    "mcp_approval_request", "mcp_approval_response", "reasoning", "compaction", "item_reference", "computer_call", "x",
]  # fmt: skip
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(KINDS), "id": ID | JSON, "role": st.sampled_from(["user", "assistant", "system", "x"]),
        "content": st.text(max_size=9) | st.lists(PART, max_size=2) | JSON, "call_id": ID, "name": st.text(max_size=9),
        "arguments": st.text(max_size=9), "output": st.text(max_size=9) | JSON, "queries": JSON, "results": JSON, "action": JSON,
        "server_label": st.sampled_from(["desk", "x", ""]), "tools": JSON, "approval_request_id": ID, "approve": JSON,
        "summary": JSON, "encrypted_content": st.text(max_size=9), "status": st.sampled_from(["completed", "x"]),
    },
)  # fmt: skip
TOOL = st.fixed_dictionaries(
    {"type": st.sampled_from(["function", "file_search", "mcp", "web_search", "code_interpreter", "x"])},
    optional={
        "name": st.text(max_size=6), "parameters": JSON, "vector_store_ids": JSON | st.just(["manuals"]), "filters": JSON,
        "server_label": st.sampled_from(["desk", "x"]), "allowed_tools": JSON, "require_approval": JSON, "ranking_options": JSON,
    },
)  # fmt: skip
SCRIPTS = st.sampled_from(["say Yes", 'call echo {"text": "a"}\nsay Done', "call order", "refuse No", "call nothing"])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "input": SCRIPTS | st.lists(ITEM, max_size=3) | st.text(max_size=9) | JSON,
    "tools": st.lists(TOOL, max_size=2) | JSON,
    "tool_choice": st.sampled_from(["auto", "none", "required"]) | TOOL | JSON,
    "text": JSON | st.sampled_from([{"format": {"type": "text"}}, {"format": {"type": "json_schema"}}]),
    "reasoning": JSON, "include": JSON, "metadata": JSON, "prompt": JSON, "conversation": JSON,
    "instructions": st.text(max_size=9) | JSON,
    "previous_response_id": ID | JSON, "temperature": st.floats(allow_nan=False), "top_logprobs": st.integers(-1, 21),
    "max_output_tokens": st.integers(), "max_tool_calls": st.integers(), "max_infer_iters": st.integers(0, 3),
    "truncation": st.sampled_from(["auto", "disabled", "x"]), "store": st.booleans(), "stream": st.booleans(),
    "parallel_tool_calls": JSON, "guardrails": JSON, "user": JSON, "anything": JSON,
}  # fmt: skip
BODY = st.fixed_dictionaries(
    {}, optional={"model": st.sampled_from(["actor", "agent", "letters", "x"]) | JSON, **FIELDS}
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The application."""
    with opened(tmp_path_factory.mktemp("fuzzed"), started=False) as made:
        yield made


def check(answer: Answer) -> None:
    """No 5xx; errors in OpenAI's shape; a stream that ends with the response."""
    assert answer.status < 500, answer.body
    if answer.status != 200:
        assert answer.error["message"]
    elif answer.headers["content-type"] == "text/event-stream":
        assert events_of(answer)[-1]["type"] in ("response.completed", "response.incomplete", "response.failed")


careful = functools.partial(
    settings, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@careful(max_examples=70)
@given(body=BODY)
def test_objects_with_known_and_unknown_fields(app: App, body: dict[str, Any]) -> None:
    check(asked(app, "POST", "/v1/responses", body))


@careful(max_examples=70)
@given(
    base=st.sampled_from(
        [{"model": "actor", "input": "say Yes"}, {"model": "agent", "input": 'call echo {"text": "a"}\nsay Done'}]
    ),
    change=st.dictionaries(st.sampled_from(sorted(FIELDS)), st.none(), max_size=2).flatmap(
        lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
    ),
)
def test_right_requests_with_a_few_fields_changed(app: App, base: dict[str, Any], change: dict[str, Any]) -> None:
    check(asked(app, "POST", "/v1/responses", {**base, **change}))


@careful(max_examples=40)
@given(items=st.lists(ITEM, max_size=3) | JSON, metadata=JSON)
def test_conversations(app: App, items: Any, metadata: Any) -> None:
    made = asked(app, "POST", "/v1/conversations", {"items": items, "metadata": metadata})
    check(made)
    if made.status == 200:
        path = f"/v1/conversations/{made.json['id']}"
        assert asked(app, "GET", f"{path}/items").status == 200
        check(
            asked(app, "POST", "/v1/responses", {"model": "actor", "input": "say Yes", "conversation": made.json["id"]})
        )
        assert asked(app, "DELETE", path).status == 200


@careful(max_examples=40)
@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.sampled_from(["/v1/responses", "/v1/responses/x", "/v1/responses/x/cancel", "/v1/responses/x/input_items",
                          "/v1/responses/compact", "/v1/responses/input_tokens", "/v1/conversations", "/v1/conversations/x",
                          "/v1/conversations/x/items", "/v1/conversations/x/items/y"]),
    query=st.dictionaries(st.sampled_from(["limit", "order", "after", "include", "stream", "starting_after", "x"]),
                          st.text(max_size=5), max_size=2),
    body=st.binary(max_size=30) | JSON,
)  # fmt: skip
def test_paths_and_queries(app: App, method: str, path: str, query: dict[str, str], body: Any) -> None:
    check(asked(app, method, path, body, query))


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udfff x"', '"a\\u0000b"'])
def test_odd_characters(app: App, text: str) -> None:
    for body in (f'{{"model": "actor", "input": {text}}}', f'{{"model": "actor", "input": "say Yes", "instructions": {text}}}',
                 f'{{"model": "actor", "input": "say Yes", "metadata": {{"k": {text}}}}}'):  # fmt: skip
        check(asked(app, "POST", "/v1/responses", body.encode()))
    check(asked(app, "POST", "/v1/conversations", f'{{"metadata": {{"k": {text}}}}}'.encode()))
