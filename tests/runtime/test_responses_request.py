"""What a request may say: items in, choices of tools, forms, references; and refusals that name the parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lsbuild_runtime.app import App
from lsbuild_runtime.ports import Chat
from responding import opened, respond, text_of
from runtime_asking import asked

FUNCTION: dict[str, Any] = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object"},
}
SEARCH: dict[str, Any] = {"type": "file_search", "vector_store_ids": ["manuals"]}
LOOK = {"type": "function", "name": "look"}
DESK: dict[str, Any] = {"type": "mcp", "server_label": "desk", "require_approval": "never"}
SCHEMA = {"type": "json_schema", "name": "pump", "schema": {"type": "object"}, "strict": True}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The application."""
    with opened(tmp_path_factory.mktemp("request")) as made:
        yield made


def told(app: App, given: Any, model: str = "actor", **fields: Any) -> Chat:
    """The chat that the model was asked last."""
    answer = respond(app, given, model, **fields)
    assert answer.status == 200, answer.body
    actor: Any = app.services.get("inference", model)
    asked: Chat = actor.asked[-1]
    return asked


def user(*parts: Any) -> dict[str, Any]:
    """A message of the user."""
    return {"role": "user", "content": list(parts) or "say Yes"}


def test_items_become_messages(app: App) -> None:
    items = [
        {"type": "message", "role": "developer", "content": "Be brief."},
        user({"type": "input_text", "text": "say a"}, {"type": "input_text", "text": "say b"}),
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "final_answer",
         "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
        {"type": "file_search_call", "id": "fs_1", "queries": ["q"], "status": "completed", "results": [{"text": "found"}]},
        {"type": "file_search_call", "id": "fs_2", "queries": ["q"], "status": "completed", "results": None},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "desk", "tools": []},
        {"type": "mcp_call", "id": "mcp_1", "server_label": "desk", "name": "echo", "arguments": "{}", "output": "x"},
        {"type": "mcp_call", "id": "mcp_2", "server_label": "gone", "name": "it", "arguments": "{}",
         "error": {"type": "mcp_tool_execution_error", "content": [], "message": "no"}},
        user(),
    ]  # fmt: skip
    chat = told(app, items, tools=[DESK], instructions="Be kind.")

    def call(call_id: str, name: str, arguments: str = "{}") -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}

    assert list(chat.messages) == [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "say a\nsay b"},
        {"role": "assistant", "content": "a", "tool_calls": [call("c1", "look"), call("c2", "look")]},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "assistant", "content": None, "tool_calls": [call("fs_1", "file_search", '{"query":"q"}')]},
        {"role": "tool", "tool_call_id": "fs_1", "content": "[1] found\n"},
        {"role": "assistant", "content": None, "tool_calls": [call("mcp_1", "echo")]},
        {"role": "tool", "tool_call_id": "mcp_1", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call("mcp_2", "gone_it")]},
        {"role": "tool", "tool_call_id": "mcp_2", "content": "no"},
        {"role": "user", "content": "say Yes"},
    ]


def test_images_reach_models_that_see(app: App) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    text = {"type": "input_text", "text": "say Yes"}
    refused = respond(app, [user(text, image)])
    assert (refused.status, refused.error["param"]) == (400, "input[0].content[1].type")
    assert (
        respond(app, [user({"type": "input_image", "file_id": "file-1"})], "eyes").error["param"]
        == "input[0].content[0].image_url"
    )


def test_fields_reach_the_model(app: App) -> None:
    chat = told(
        app, "say Yes", "eyes", temperature=0.5, top_p=0.25, max_output_tokens=16, frequency_penalty=1.0, presence_penalty=-1.0,
        top_logprobs=3, tools=[FUNCTION], parallel_tool_calls=False, text={"format": SCHEMA, "verbosity": "low"},
        reasoning={"effort": "low"},
    )  # fmt: skip
    sampling = chat.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.logprobs) == (0.5, 0.25, 16, 3)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (1.0, -1.0)
    assert chat.tools[0]["function"] == {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
    assert not chat.parallel_tool_calls
    assert chat.response_format == {
        "type": "json_schema", "json_schema": {"name": "pump", "schema": {"type": "object"}, "strict": True},
    }  # fmt: skip
    assert chat.extra == {"verbosity": "low", "reasoning_effort": "low"}
    assert told(app, "say Yes", text={"format": {"type": "json_object"}}).response_format == {"type": "json_object"}


def test_what_was_asked_stands_in_the_response(app: App) -> None:
    said = {
        "instructions": "Be kind.", "metadata": {"a": "b"}, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k",
        "truncation": "auto", "max_tool_calls": 3, "top_p": 0.5, "tool_choice": "none", "max_output_tokens": 99,
        "text": {"format": {"type": "text"}},
    }  # fmt: skip
    response = respond(app, "say Yes", tools=[FUNCTION, DESK], service_tier="auto", store=False, **said).json
    assert {name: response[name] for name in said} == said
    assert response["tools"] == [{**FUNCTION, "strict": True}, DESK]
    assert (response["service_tier"], response["store"]) == ("default", False)


@pytest.mark.parametrize(
    ("choice", "expected", "offered"),
    [
        (None, "auto", {"look", "file_search", "echo", "fail", "order"}),
        ("none", "none", {"look"}),
        ("required", "required", {"look", "file_search", "echo", "fail", "order"}),
        ({"type": "function", "name": "look"}, "look", {"look", "file_search", "echo", "fail", "order"}),
        ({"type": "file_search"}, "file_search", {"look", "file_search", "echo", "fail", "order"}),
        ({"type": "mcp", "server_label": "desk", "name": "fail"}, "fail", {"look", "file_search", "echo", "fail", "order"}),
        ({"type": "mcp", "server_label": "desk"}, "required", {"look", "echo", "fail", "order"}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [LOOK, {"type": "file_search"}]},
            "required", {"look", "file_search"},
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp", "server_label": "desk"}]}, "auto",
         {"echo", "fail", "order"}),
    ],
)  # fmt: skip
def test_choices_of_tools(app: App, choice: Any, expected: str, offered: set[str]) -> None:
    chat = told(app, "say Yes", tools=[FUNCTION, SEARCH, DESK], tool_choice=choice)
    assert chat.tool_choice == expected
    assert {tool["function"]["name"] for tool in chat.tools} == offered


def test_a_conversation_that_is_too_long_loses_its_oldest_turns(app: App) -> None:
    turns = [user({"type": "input_text", "text": f"turn {number} " + "word " * 8}) for number in range(20)]
    refused = respond(app, [*turns, user()], "eyes")
    assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")
    chat = told(app, [*turns, user()], "eyes", truncation="auto", instructions="Be kind.")
    texts = [message["content"] for message in chat.messages]
    assert (texts[0], texts[-1]) == ("Be kind.", "say Yes")
    assert "turn 19" in texts[-2]
    assert len(texts) < 18
    assert respond(app, "word " * 200, "eyes", truncation="auto").error["code"] == "context_length_exceeded"


def test_tools_with_the_same_name_get_their_servers_name(app: App) -> None:
    echo = {**FUNCTION, "name": "echo"}
    assert {tool["function"]["name"] for tool in told(app, "say Yes", tools=[echo, DESK]).tools} >= {
        "echo",
        "desk_echo",
    }


def test_a_server_of_the_spec_may_be_named_by_its_address(app: App) -> None:
    tool = {
        "type": "mcp",
        "server_label": "my_desk",
        "server_url": "https://desk.example/mcp/",
        "require_approval": "never",
    }
    response = respond(app, 'call echo {"text": "a"}\nsay Done', tools=[tool]).json
    assert [(each["type"], each.get("server_label")) for each in response["output"]] == [
        ("mcp_list_tools", "my_desk"), ("mcp_call", "my_desk"), ("message", None),
    ]  # fmt: skip


def test_a_search_of_a_request_stands_for_the_agents_own(app: App) -> None:
    tool = {**SEARCH, "max_num_results": 1, "filters": {"type": "eq", "key": "heading", "value": "Valves"}}
    answer = respond(
        app, 'call file_search {"query": "a valve closes"}', "agent", tools=[tool], include=["file_search_call.results"]
    )
    assert [each["text"] for each in answer.json["output"][0]["results"]] == ["A valve closes slowly."]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"anything": 1}, "anything"),
    ({"model": None}, "model"),
    ({"input": None}, "input"),
    ({"input": [{"type": "computer_call"}]}, "input[0].type"),
    ({"input": [{"type": "nothing"}]}, "input[0].type"),
    ({"input": [user({"type": "input_file", "file_id": "f"})]}, "input[0].content[0]"),
    ({"input": [{"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"}]}, "input"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0].call_id"),
    ({"input": [{"type": "mcp_approval_response", "approval_request_id": "m", "approve": True}]}, "input[0].approval_request_id"),
    ({"input": [{"type": "mcp_approval_response", "approval_request_id": "m", "approve": yes} for yes in (False, True)]},
     "input[1].approval_request_id"),
    ({"input": [{"type": "compaction", "encrypted_content": "?"}]}, "input[0].encrypted_content"),
    ({"temperature": 3}, "temperature"),
    ({"max_output_tokens": 15}, "max_output_tokens"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"truncation": "some"}, "truncation"),
    ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"include": ["reasoning.encrypted_content"]}, "include[0]"),
    ({"include": ["file_search_call.results", "else"]}, "include[1]"),
    ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
    ({"reasoning": {"summary": "concise"}}, "reasoning.summary"),
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"background": True, "store": False}, "background"),
    ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "previous_response_id"),
    ({"metadata": {"a" * 65: "b"}}, "metadata"),
    ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
    ({"tools": [{"type": "image_generation"}]}, "tools[0].type"),
    ({"tools": [{"type": "computer_use_preview"}]}, "tools[0].type"),
    ({"tools": [{"type": "nothing"}]}, "tools[0].type"),
    ({"tools": [{"type": "web_search", "user_location": {"type": "approximate"}}]}, "tools[0].user_location"),
    ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].vector_store_ids"),
    ({"tools": [{**SEARCH, "filters": {"type": "eq"}}]}, "tools[0].filters.key"),
    ({"tools": [{**SEARCH, "ranking_options": {"ranker": "best"}}]}, "tools[0].ranking_options.ranker"),
    ({"tools": [{"type": "mcp", "server_label": "desk", "connector_id": "connector_gmail"}]}, "tools[0].connector_id"),
    ({"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://x.example"}]}, "tools[0].server_url"),
    ({"tools": [{**DESK, "authorization": "token"}]}, "tools[0].authorization"),
    ({"tools": [{**DESK, "headers": {"a": "b"}}]}, "tools[0].headers"),
    ({"tools": [{"type": "mcp", "server_label": "nothing"}]}, "tools[0].server_label"),
    ({"tools": [{**DESK, "allowed_tools": ["nothing"]}]}, "tools[0].allowed_tools"),
    ({"tools": [{**DESK, "allowed_tools": []}]}, "tools[0].allowed_tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "look"}}, "tool_choice"),
    ({"tool_choice": {"type": "computer_use_preview"}}, "tool_choice.type"),
    ({"tools": [FUNCTION], "tool_choice": {"type": "file_search"}}, "tool_choice"),
    ({"tools": [DESK], "tool_choice": {"type": "mcp", "server_label": "desk", "name": "x"}}, "tool_choice"),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{**LOOK, "name": "x"}]}},
        "tool_choice.tools[0]",
    ),
    ({"tools": [FUNCTION, FUNCTION]}, "tools[1].name"),
    ({"tools": [SEARCH, SEARCH]}, "tools[1].type"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[str(fields)[:60] for fields, _ in REFUSED])
def test_refusals_name_the_parameter(app: App, fields: dict[str, Any], param: str) -> None:
    answer = asked(app, "POST", "/v1/responses", {"model": "actor", "input": "say Yes", **fields})
    assert answer.status == 400, answer.body
    assert answer.error["param"] == param
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["message"].startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": "nobody"}, "model", "model_not_found"),
        ({"previous_response_id": "resp_x"}, "previous_response_id", "previous_response_not_found"),
        ({"conversation": "conv_x"}, "conversation", "conversation_not_found"),
        ({"script": [{"type": "item_reference", "id": "msg_x"}]}, "input[0].id", "not_found"),
        (
            {"tools": [{"type": "file_search", "vector_store_ids": ["manuals", "none"]}]},
            "tools[0].vector_store_ids[1]", "vector_store_not_found",
        ),
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_404(app: App, fields: dict[str, Any], param: str, code: str) -> None:
    answer = respond(app, **{"script": "say Yes", **fields})
    assert (answer.status, answer.error["param"], answer.error["code"]) == (404, param, code)


def test_models_that_write_nothing_are_refused(app: App) -> None:
    assert respond(app, "say Yes", "letters").error["param"] == "model"


def test_a_response_of_a_plain_model_is_what_it_says(app: App) -> None:
    assert text_of(respond(app, "one two", "org/parrot").json) == "one two"
