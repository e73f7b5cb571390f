"""POST /v1/messages: Anthropic's official client drives a server, and each bad request is a 400 that names its field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live_server import serving
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Request
from lsbuild_runtime.ports import Annotation, Delta, ToolCall, Usage
from lsbuild_runtime.routes.anthropic.errors import ERRORS
from lsbuild_runtime.routes.anthropic.events import Asked, events, whole
from lsbuild_runtime.routes.anthropic.prompt import messages_of
from lsbuild_runtime.routes.anthropic.request import MessageParam
from lsbuild_runtime.routes.translation import named
from runtime_asking import Answer, Ask
from small_services import Parrot, small_manifest

PATH, COUNT = "/v1/messages", "/v1/messages/count_tokens"
USER: Any = {"role": "user", "content": "one two three"}
LOOK: Any = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
GOOD = {"model": "org/parrot", "max_tokens": 20, "messages": [USER]}
USED = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}}]}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client of a server over all small services."""
    app = App(small_manifest(), tmp_path_factory.mktemp("anthropic"))
    with serving(app) as url, anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0) as opened:
        yield opened


def test_a_plain_answer(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(
        model="org/parrot",
        max_tokens=20,
        system="Be kind.",
        messages=[USER],
        extra_body={"temperature": 0.5, "top_k": 3},
    )
    assert [block.to_dict() for block in answer.content] == [
        {"type": "text", "text": "one two three", "citations": None}
    ]
    assert (answer.stop_reason, answer.stop_sequence, answer.model) == ("end_turn", None, "org/parrot")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cache_read_input_tokens) == (5, 3, 0)
    assert answer._request_id


@pytest.mark.parametrize(
    ("options", "reason", "met", "text"),
    [
        ({"max_tokens": 2}, "max_tokens", None, "one two"),
        ({"stop_sequences": ["nine", "three"]}, "stop_sequence", "three", "one two"),
    ],
)
def test_why_an_answer_ends(client: anthropic.Anthropic, options: Any, reason: str, met: Any, text: str) -> None:
    answer = client.messages.create(**{**GOOD, **options})
    block = answer.content[0]
    assert (answer.stop_reason, answer.stop_sequence) == (reason, met)
    assert block.type == "text"
    assert block.text == text


def test_a_stream_is_the_same_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="org/parrot", max_tokens=20, messages=[USER]) as stream:
        assert "".join(stream.text_stream) == "one two three"
        final = stream.get_final_message()
    plain = client.messages.create(model="org/parrot", max_tokens=20, messages=[USER])
    kept = {"content", "stop_reason", "stop_sequence", "usage"}
    assert final.model_dump(include=kept, exclude={"content": {"__all__": {"parsed_output"}}}) == plain.model_dump(
        include=kept
    )


def test_tools_go_round(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="org/parrot", max_tokens=20, messages=[USER], tools=[LOOK], tool_choice={"type": "tool", "name": "look"}
    ) as stream:
        first = stream.get_final_message()
    call = first.content[0]
    assert first.stop_reason == "tool_use"
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("look", {"text": "x"})
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "it is red"}
    second = client.messages.create(
        model="org/parrot",
        max_tokens=20,
        messages=[USER, first.to_param(), {"role": "user", "content": [result]}],
        tools=[LOOK],
    )
    said = second.content[0]
    assert said.type == "text"
    assert said.text == "it is red"


def test_an_agent_cites(client: anthropic.Anthropic) -> None:
    question: Any = {"role": "user", "content": "red pump"}
    with client.messages.stream(model="helper", max_tokens=64, messages=[question]) as stream:
        block: Any = stream.get_final_message().content[0]
    first = block.citations[0]
    assert (first.type, first.cited_text) == ("char_location", "The red pump needs oil every week.")
    assert (first.document_title, first.file_id, first.document_index) == ("manual.md", "file-1", 0)
    assert first.end_char_index - first.start_char_index == len(first.cited_text)
    plain: Any = client.messages.create(model="helper", max_tokens=64, messages=[question]).content[0]
    assert (plain.text, plain.citations) == (block.text, block.citations)


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    for model in ("org/parrot", "helper"):
        counted = client.messages.count_tokens(model=model, messages=[USER], system="Be kind.")
        used = client.messages.create(model=model, max_tokens=5, messages=[USER], system="Be kind.").usage
        assert counted.input_tokens == used.input_tokens


def test_the_beta_client_is_the_same(client: anthropic.Anthropic) -> None:
    answer: Any = client.beta.messages.create(model="org/parrot", max_tokens=20, messages=[USER])
    assert answer.content[0].text == "one two three"


def test_errors_are_the_clients_own(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(model="nobody", max_tokens=5, messages=[USER])
    assert unknown.value.type == "not_found_error"
    assert unknown.value.request_id
    with pytest.raises(anthropic.BadRequestError) as wrong:
        client.messages.create(model="letters", max_tokens=5, messages=[USER])
    assert wrong.value.type == "invalid_request_error"
    with pytest.raises(anthropic.BadRequestError, match="tokens; the context holds 256"):
        client.messages.create(model="org/parrot", max_tokens=5, messages=[{"role": "user", "content": "x " * 300}])


def test_a_stream_that_cannot_begin_keeps_its_status(client: anthropic.Anthropic) -> None:
    long: Any = {"role": "user", "content": "x " * 300}
    with pytest.raises(anthropic.BadRequestError), client.messages.stream(**{**GOOD, "messages": [long]}) as stream:
        stream.get_final_message()


# The wire, both ways


def read(*messages: dict[str, Any]) -> list[Any]:
    """The messages as the port gets them."""
    return [msgspec.to_builtins(each) for each in messages_of(msgspec.convert(messages, list[MessageParam]), False)]


def test_turns_of_one_role_are_one_turn_and_results_are_messages_of_tools() -> None:
    said = read(
        USER,
        {"role": "user", "content": [{"type": "text", "text": "four", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, *USED["content"]]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "is_error": True,
                    "content": [{"type": "text", "text": "no"}],
                },
                {"type": "text", "text": "and now?"},
            ],
        },
    )
    assert said == [
        {"role": "user", "content": [{"type": "text", "text": "one two three"}, {"type": "text", "text": "four"}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}],
            "reasoning_content": "hm",
        },
        {"role": "tool", "tool_call_id": "t1", "content": "Error: no"},
        {"role": "user", "content": [{"type": "text", "text": "and now?"}]},
    ]


def test_what_the_model_is_asked(app: App, ask: Ask) -> None:
    parrot: Parrot = app.services.get("inference", "org/parrot")
    options = {
        "tools": [{**LOOK, "strict": True, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        "max_tokens": 100_000,
    }
    assert ask("POST", PATH, {**GOOD, **options}).status == 200
    chat = parrot.last
    assert chat is not None
    assert chat.messages[0] == {"role": "system", "content": "a\nb"}
    assert chat.tools[0]["function"] == {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object"},
        "strict": True,
    }
    assert (chat.tool_choice, chat.parallel_tool_calls, chat.sampling.max_tokens) == ("required", False, None)
    assert chat.response_format is not None
    assert chat.response_format["json_schema"]["schema"] == {"type": "object"}


DELTAS = (
    Delta(reasoning="hm"),
    Delta(text="a "),
    Delta(text="b"),
    Delta(annotations=(Annotation("f", "n.md", "s", 1, 2, quote="q"),)),
    Delta(tool_calls=(ToolCall("c1", "look", '{"a": 1}'), ToolCall("c2", "look", "{oops"))),
    Delta(finish="tool_calls"),
    Delta(usage=Usage(10, 4, 6)),
)


def test_blocks_follow_each_other() -> None:
    answer = whole(iter(DELTAS), Asked("m", thinking=True))
    kinds = [msgspec.to_builtins(block) for block in answer.content]
    assert [kind.pop("type") for kind in kinds] == ["thinking", "text", "tool_use", "tool_use"]
    assert kinds[0] == {"thinking": "hm", "signature": ""}
    assert (kinds[1]["text"], len(kinds[1]["citations"])) == ("a b", 1)
    assert [kind["input"] for kind in kinds[2:]] == [{"a": 1}, {"INVALID_JSON": "{oops"}]
    assert msgspec.to_builtins(answer.usage) == {
        "input_tokens": 4,
        "output_tokens": 4,
        "cache_read_input_tokens": 6,
        "cache_creation_input_tokens": 0,
    }


def test_every_block_of_a_stream_is_opened_once_and_closed_in_order() -> None:
    seen: list[tuple[str, int | None]] = []
    for event in events(iter(DELTAS), Asked("m", thinking=True)):
        data = msgspec.to_builtins(event)
        assert named(event).startswith(b"event: " + data["type"].encode() + b"\ndata: {")
        seen.append((data["type"].removeprefix("content_block_"), data.get("index")))
    one = [("start", 0), ("delta", 0), ("stop", 0), ("start", 1), ("delta", 1), ("delta", 1), ("delta", 1), ("stop", 1)]
    calls = [("start", 2), ("delta", 2), ("stop", 2), ("start", 3), ("delta", 3), ("stop", 3)]
    assert seen == [("message_start", None), *one, *calls, ("message_delta", None), ("message_stop", None)]


def test_thoughts_are_sent_to_those_who_ask_for_them() -> None:
    assert [msgspec.to_builtins(block)["type"] for block in whole(iter(DELTAS[:3]), Asked("m")).content] == ["text"]


def test_a_refusal_is_one() -> None:
    answer = whole(iter([Delta(refusal="Not that.", finish="content_filter")]), Asked("m"))
    assert (answer.stop_reason, answer.content) == ("refusal", [])
    assert answer.stop_details is not None
    assert answer.stop_details.explanation == "Not that."


@pytest.mark.parametrize("error", [ApiError(503, "gone"), ValueError("secret")])
def test_a_failure_in_the_middle_is_an_event(ask: Ask, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(*_: Any) -> Iterator[Delta]:
        yield Delta(text="a")
        raise error

    monkeypatch.setattr(Parrot, "chat", broken)
    answer = ask("POST", PATH, {**GOOD, "stream": True})
    name, data = answer.body.strip().split(b"\n\n")[-1].split(b"\n")
    assert name == b"event: error"
    body = msgspec.json.decode(data.removeprefix(b"data: "))
    assert (body["type"], body["error"]["type"]) == ("error", "api_error")
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (404, "not_found_error"), (408, "timeout_error"), (413, "request_too_large"),
     (415, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error"), (503, "api_error")],
)  # fmt: skip
def test_the_type_of_an_error_follows_from_its_status(status: int, kind: str) -> None:
    answer = Answer(ERRORS.response(ApiError(status, "m", retry_after=3), "req_1"))
    assert answer.json == {"type": "error", "error": {"type": kind, "message": "m"}, "request_id": "req_1"}
    assert (answer.headers["retry-after"], answer.headers["request-id"]) == ("3", "req_1")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ApiError(400, "response_format 'x' is not supported", param="response_format"),
            "output_config.format: response_format",
        ),
        (ApiError(400, "stop: too many", param="stop"), "stop_sequences: too many"),
        (ApiError(404, "no such model", param="model"), "model: no such model"),
        (ApiError(400, "x", param="response_format.json_schema.schema.items"), "output_config.format.schema.items: x"),
        (ApiError(400, "x", param="tools[0].function.parameters.type"), "tools[0].input_schema.type: x"),
        (ApiError(400, "x", param="stop_it"), "stop_it: x"),
        (ApiError(503, "gone"), "gone"),
    ],
)
def test_what_a_provider_refuses_has_the_name_that_the_client_knows(error: ApiError, message: str) -> None:
    assert Answer(ERRORS.response(error, "r")).json["error"]["message"].startswith(message)


def test_a_request_that_is_not_taken_is_refused_in_the_same_words(app: App) -> None:
    answer = Answer(app.refuse(Request("POST", PATH), ApiError(429, "full", retry_after=1)))
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert answer.json["error"] == {"type": "rate_limit_error", "message": "full"}


# Refusals


def user(*blocks: Any) -> dict[str, Any]:
    """The messages of one turn."""
    return {"messages": [{"role": "user", "content": list(blocks)}]}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (user(), "messages[0].content"),
    ({"messages": [USER, {"role": "assistant", "content": "The answer is"}]}, "messages[1].role"),
    (user({"type": "text"}), "messages[0].content[0].text"),
    (user({"type": "document", "source": {}}), "messages[0].content[0].type"),
    (user({"type": "redacted_thinking", "data": ""}), "messages[0].content[0].type"),
    (user(IMAGE), "messages[0].content[0].type"),
    (user({"type": "thinking", "thinking": "x", "signature": ""}), "messages[0].content[0].type"),
    (user({"type": "tool_result", "tool_use_id": "t9"}), "messages[0].content[0].tool_use_id"),
    (user({"type": "text", "text": "x", "cache_control": {"type": "forever"}}), "messages[0].content[0].cache_control.type"),
    ({"messages": [{"role": "assistant", "content": [IMAGE]}, USER]}, "messages[0].content[0].type"),
    (
        {"messages": [USED, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [IMAGE]}]}]},
        "messages[1].content[0].content[0].type",
    ),
    ({"system": [IMAGE]}, "system[0].type"),
    ({"temperature": 1.5}, "temperature"),
    ({"top_p": 2}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"stop_sequences": [""]}, "stop_sequences[0]"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
    ({"tools": [{"name": "look"}]}, "tools[0].input_schema"),
    ({"tools": [{**LOOK, "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tool_choice": {"type": "any"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool", "name": "go"}, "tools": [LOOK]}, "tool_choice.name"),
    ({"tool_choice": {"type": "sometimes"}}, "tool_choice.type"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.type"),
    ({"output_config": {"effort": "high"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ({"metadata": {"name": "x"}}, "metadata.name"),
    ({"service_tier": "fast"}, "service_tier"),
    ({"container": "c"}, "container"),
    ({"mcp_servers": []}, "mcp_servers"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "param"), WRONG, ids=[param for _, param in WRONG])
def test_a_wrong_request_names_its_parameter(ask: Ask, change: dict[str, Any], param: str) -> None:
    body = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    answer = ask("POST", PATH, body)
    assert answer.status == 400, answer.body
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.json["error"]["message"].startswith(f"{param}: ")


def test_what_only_generates_is_refused_by_a_count(ask: Ask) -> None:
    assert ask("POST", COUNT, {"model": "org/parrot", "messages": [USER]}).json == {"input_tokens": 3}
    assert ask("POST", COUNT, GOOD).json["error"]["message"].startswith("max_tokens: ")


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
BLOCK = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "thinking", "tool_use", "tool_result", "x"])},
    optional={
        "text": st.text(max_size=9), "thinking": st.text(max_size=5), "signature": st.text(max_size=2), "id": st.just("t1"),
        "tool_use_id": st.sampled_from(["t1", "t2"]), "name": st.text(max_size=5), "input": JSON, "content": JSON,
        "source": JSON, "cache_control": JSON, "is_error": st.booleans(),
    },
)  # fmt: skip
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "x"])},
    optional={"content": st.text(max_size=20) | st.lists(BLOCK, max_size=3) | JSON},
)
FIELDS: dict[str, Any] = {
    "messages": st.lists(TURN, max_size=4),
    "system": st.text(max_size=9) | st.lists(BLOCK, max_size=2) | JSON,
    "tools": st.lists(st.just(LOOK) | JSON, max_size=2),
    "tool_choice": JSON | st.sampled_from([{"type": "any"}, {"type": "none"}, {"type": "tool", "name": "look"}]),
    "stop_sequences": st.lists(st.text(max_size=3), max_size=3),
    "max_tokens": st.integers(-1, 5),
    "stream": st.booleans(),
    "thinking": JSON,
    "anything": JSON,
}


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from([PATH, COUNT]),
    change=st.fixed_dictionaries({}, optional=FIELDS),
    body=st.none() | st.binary(max_size=20),
)
def test_whatever_is_sent_the_answer_is_no_5xx(ask: Ask, path: str, change: dict[str, Any], body: bytes | None) -> None:
    answer = ask("POST", path, body or {**GOOD, **change})
    assert answer.status < 500, answer.body
    if answer.status != 200:
        assert answer.json["type"] == "error"
