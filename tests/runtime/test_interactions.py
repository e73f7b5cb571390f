"""POST /v1alpha/interactions: Google's official client drives a server, and each bad request is a 400 that names its field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live_server import serving
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ports import Annotation, Delta, ToolCall, Usage
from lsbuild_runtime.routes.google.events import Asked, events, whole
from lsbuild_runtime.routes.google.prompt import messages_of
from runtime_asking import Ask, asked
from small_services import Parrot, small_manifest

PATH = "/v1alpha/interactions"
GOOD = {"model": "org/parrot", "input": "one two three"}
LOOK: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}}
SAID = {"type": "user_input", "content": [{"type": "text", "text": "hello"}]}
CALLED = {"type": "function_call", "id": "c1", "name": "look", "arguments": {"a": 1}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Google's client of a server over all small services."""
    genai = pytest.importorskip("google.genai", reason="needs the package google-genai")
    with serving(App(small_manifest(), tmp_path_factory.mktemp("interactions"))) as url:
        opened = genai.Client(api_key="unused", http_options={"base_url": url, "api_version": "v1alpha"})
        yield opened.interactions
        opened.close()


def test_a_plain_answer(client: Any) -> None:
    answer = client.create(
        model="org/parrot",
        input="one two three",
        system_instruction="Be kind.",
        generation_config={"max_output_tokens": 2, "seed": 7},
        labels={"session_id": "s"},
    )
    assert (answer.status, answer.output_text, answer.labels) == ("incomplete", "one two", {"session_id": "s"})
    assert (answer.usage.total_input_tokens, answer.usage.total_output_tokens, answer.usage.total_tokens) == (5, 2, 7)


def test_a_stream(client: Any) -> None:
    seen = list(client.create(model="org/parrot", input="one two", stream=True))
    kinds = [event.event_type for event in seen]
    assert kinds == [
        "interaction.created",
        "step.start",
        "step.delta",
        "step.delta",
        "step.stop",
        "interaction.completed",
    ]
    assert "".join(event.delta.text for event in seen if event.event_type == "step.delta") == "one two"
    assert seen[-1].interaction.usage.total_tokens == 4


def test_tools_go_round(client: Any) -> None:
    once = {"tool_choice": {"allowed_tools": {"mode": "any", "tools": ["look"]}}}
    first = client.create(model="org/parrot", input=[SAID], tools=[LOOK], generation_config=once)
    call = first.steps[0]
    assert first.status == "requires_action"
    assert (call.type, call.name, call.arguments) == ("function_call", "look", {"text": "x"})
    result = {"type": "function_result", "call_id": call.id, "name": "look", "result": {"colour": "red"}}
    second = client.create(model="org/parrot", input=[SAID, call.model_dump(), result], tools=[LOOK])
    assert second.output_text == '{"colour":"red"}'


def test_an_agent_cites(client: Any) -> None:
    answer = client.create(agent="helper", input="red pump")
    first = answer.steps[0].content[0].annotations[0]
    assert (first.type, first.file_name) == ("file_citation", "manual.md")
    assert first.custom_metadata["quote"] == "The red pump needs oil every week."


def test_errors_are_the_clients_own(client: Any) -> None:
    for change, status in (({"model": "nobody"}, 404), ({"background": True}, 400)):
        with pytest.raises(Exception, match="Error code") as caught:
            client.create(**{**GOOD, **change})
        assert getattr(caught.value, "status_code", 0) == status


# What is kept


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[App]:
    """An application that keeps state."""
    made = App(small_manifest(), tmp_path, state=tmp_path / "state")
    yield made
    made.close()


@pytest.mark.parametrize("stream", [False, True])
def test_the_official_client_goes_on_from_an_interaction(keeping: App, stream: bool) -> None:
    genai = pytest.importorskip("google.genai", reason="needs the package google-genai")
    with serving(keeping) as url:
        opened = genai.Client(api_key="unused", http_options={"base_url": url, "api_version": "v1alpha"})
        client = opened.interactions
        once = {"tool_choice": {"allowed_tools": {"mode": "any", "tools": ["look"]}}}
        asks = {"model": "org/parrot", "input": "one", "tools": [LOOK], "generation_config": once}
        first = list(client.create(**asks, stream=True))[-1].interaction if stream else client.create(**asks)
        kept = client.get(first.id)
        call = kept.steps[0]
        assert (kept.status, call.arguments) == ("requires_action", {"text": "x"})
        result = {"type": "function_result", "call_id": call.id, "name": "look", "result": "red"}
        second = client.create(model="org/parrot", input=[result], previous_interaction_id=first.id)
        assert (second.output_text, second.previous_interaction_id) == ("red", first.id)
        client.delete(first.id)
        third = client.create(model="org/parrot", input="and?", previous_interaction_id=second.id)
        parrot: Parrot = keeping.services.get("inference", "org/parrot")
        assert parrot.last is not None
        assert [message["role"] for message in parrot.last.messages] == [
            "user",
            "assistant",
            "tool",
            "assistant",
            "user",
        ]
        with pytest.raises(Exception, match="Error code: 404"):
            client.get(first.id)
        assert third.output_text == "and?"
        opened.close()


def test_no_id_is_told_that_leads_nowhere(keeping: App, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "interactions"
    folder.mkdir(parents=True)
    (folder / "interactions.sqlite").write_bytes(b"this is no database, but long enough to look like one" * 100)
    answer = asked(keeping, "POST", PATH, GOOD)
    assert answer.status == 503
    assert "is damaged" in answer.json["error"]["message"]


def test_what_shall_not_be_kept_is_not(keeping: App, tmp_path: Path) -> None:
    answer = asked(keeping, "POST", PATH, {**GOOD, "store": False})
    assert not (tmp_path / "state").exists()
    found = asked(keeping, "POST", PATH, {**GOOD, "previous_interaction_id": answer.json["id"]})
    assert found.status == 404
    assert found.json["error"]["message"].startswith("previous_interaction_id: no interaction")


def test_a_server_without_state_answers_and_keeps_nothing(ask: Ask) -> None:
    assert ask("POST", PATH, GOOD).status == 200
    for method, path, body in (
        ("POST", PATH, {**GOOD, "store": True}),
        ("POST", PATH, {**GOOD, "previous_interaction_id": "int_1"}),
        ("GET", f"{PATH}/int_1", None),
        ("DELETE", f"{PATH}/int_1", None),
    ):
        answer = ask(method, path, body)
        assert (answer.status, answer.json["error"]["code"]) == (503, "unavailable")
        assert "--state" in answer.json["error"]["message"]


def test_an_interaction_is_forgotten_after_its_time(tmp_path: Path) -> None:
    days = [0.0]
    app = App(small_manifest(), tmp_path, state=tmp_path / "state", clock=lambda: days[0] * 86_400)
    first = asked(app, "POST", PATH, GOOD).json["id"]
    assert asked(app, "GET", f"{PATH}/{first}").status == 200
    assert asked(app, "GET", f"{PATH}/{first}", query={"stream": "true"}).status == 400
    days[0] = 31
    assert asked(app, "GET", f"{PATH}/{first}").status == 404
    app.close()


# The wire, both ways


def read(given: Any) -> list[Any]:
    """The messages as the port gets them."""
    return [msgspec.to_builtins(message) for message in messages_of(given, images=False)]


def test_steps_are_messages() -> None:
    thought = {"type": "thought", "summary": [{"type": "text", "text": "hm"}], "signature": "s"}
    output = {"type": "model_output", "content": [{"type": "text", "text": "so"}]}
    result = {"type": "function_result", "call_id": "c1", "result": "no", "is_error": True}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    assert read([SAID, thought, output, CALLED, result]) == [
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": "so", "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "Error: no"},
    ]


def test_turns_of_the_reference_server_are_messages() -> None:
    turns = [
        {"role": "user", "content": "hello"},
        {"role": "model", "content": [{"type": "function_call", "name": "look", "arguments": {}}]},
        {"role": "user", "content": [{"type": "function_result", "name": "look", "result": {"a": 1}}]},
    ]
    said = read(turns)
    assert [message["role"] for message in said] == ["user", "assistant", "tool"]
    assert said[2] == {"role": "tool", "tool_call_id": "look", "content": '{"a":1}'}


def test_what_the_model_is_asked(app: App, ask: Ask) -> None:
    parrot: Parrot = app.services.get("inference", "org/parrot")
    options = {
        "tools": [{"function_declarations": [{"name": "look"}, {"name": "go"}]}],
        "generation_config": {"tool_choice": "any", "stop_sequences": ["x"], "top_k": 4},
        "response_format": {"type": "text", "mime_type": "application/json", "schema": {"type": "object"}},
    }
    assert ask("POST", PATH, {**GOOD, **options}).status == 200
    chat = parrot.last
    assert chat is not None
    assert [tool["function"] for tool in chat.tools] == [{"name": "look"}, {"name": "go"}]
    assert (chat.tool_choice, chat.sampling.stop, chat.sampling.top_k) == ("required", ("x",), 4)
    assert chat.response_format is not None
    assert chat.response_format["json_schema"]["schema"] == {"type": "object"}


def test_the_older_form_of_a_format_is_read(app: App, ask: Ask) -> None:
    parrot: Parrot = app.services.get("inference", "org/parrot")
    for format_, kind in ((None, "json_object"), ({"type": "object"}, "json_schema")):
        body = {**GOOD, "response_mime_type": "application/json", "response_format": format_}
        assert ask("POST", PATH, body).status == 200
        assert parrot.last is not None
        assert parrot.last.response_format is not None
        assert parrot.last.response_format["type"] == kind


DELTAS = (
    Delta(reasoning="h"),
    Delta(reasoning="m"),
    Delta(text="ä b"),
    Delta(annotations=(Annotation("f", "n.md", "s", index=1),)),
    Delta(tool_calls=(ToolCall("c1", "look", '{"a": 1}'),), finish="tool_calls"),
    Delta(usage=Usage(10, 4, 6)),
)


def test_steps_follow_each_other() -> None:
    answer = msgspec.to_builtins(whole(iter(DELTAS), Asked("m", thoughts=True), lambda _: None))
    assert [step["type"] for step in answer["steps"]] == ["thought", "model_output", "function_call"]
    assert answer["steps"][0]["summary"] == [{"type": "text", "text": "hm"}]
    assert answer["steps"][1]["content"][0]["annotations"][0]["start_index"] == 2, "bytes, as Google counts"
    assert [output["type"] for output in answer["outputs"]] == ["thought", "text", "function_call"]
    assert answer["usage"]["total_cached_tokens"] == 6
    plain = msgspec.to_builtins(whole(iter(DELTAS), Asked("m"), lambda _: None))
    assert [step["type"] for step in plain["steps"]] == ["model_output", "function_call"]


def test_every_step_of_a_stream_is_opened_once_and_closed_in_order() -> None:
    seen = [msgspec.to_builtins(event) for event in events(iter(DELTAS), Asked("m", thoughts=True))]
    ends = ("step.start", "step.stop")
    steps = [(event["event_type"], event["index"]) for event in seen if event["event_type"] in ends]
    assert steps == [(kind, index) for index in range(3) for kind in ends]


def test_a_failure_in_the_middle_is_an_event(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Iterator[Delta]:
        yield Delta(text="a")
        raise ApiError(503, "gone")

    monkeypatch.setattr(Parrot, "chat", broken)
    lines = ask("POST", PATH, {**GOOD, "stream": True}).body.strip().split(b"\n\n")[-1].split(b"\n")
    assert lines[0] == b"event: error"
    assert msgspec.json.decode(lines[1][6:])["error"] == {"code": "unavailable", "message": "gone"}


# Refusals

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"agent": "helper"}, "model"),
    ({"model": None, "agent": "org/parrot"}, "agent"),
    ({"input": None}, "input"),
    ({"input": 7}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"type": "smell"}]}, "input[0].type"),
    ({"input": [{"text": "x"}]}, "input[0].type"),
    ({"input": {"type": "text"}}, "input.text"),
    ({"input": [SAID, {"type": "model_output", "content": []}]}, "input[1]"),
    ({"input": [{"type": "function_result", "call_id": "c9", "result": "x"}]}, "input[0].call_id"),
    ({"input": [{"type": "image", "data": "aGk="}]}, "input[0].type"),
    ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user", "content": [{"type": "function_call", "name": "x"}]}]}, "input[0].content[0].type"),
    ({"generation_config": {"temperature": 3}}, "generation_config.temperature"),
    ({"generation_config": {"top_k": 0}}, "generation_config.top_k"),
    ({"generation_config": {"speech_config": {}}}, "generation_config.speech_config"),
    ({"generation_config": {"thinking_level": "high"}}, "generation_config.thinking_level"),
    ({"generation_config": {"tool_choice": "any"}}, "generation_config.tool_choice"),
    (
        {"generation_config": {"tool_choice": {"allowed_tools": {"tools": ["go"]}}}, "tools": [LOOK]},
        "generation_config.tool_choice.allowed_tools.tools",
    ),
    ({"tools": [{"type": "google_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"response_format": {"type": "audio"}}, "response_format.type"),
    ({"response_format": []}, "response_format"),
    ({"response_modalities": ["audio"]}, "response_modalities[0]"),
    ({"background": True}, "background"),
    ({"cached_content": "x"}, "cached_content"),
    ({"surprise": 1}, "surprise"),
]


@pytest.mark.parametrize(("change", "param"), WRONG, ids=[param for _, param in WRONG])
def test_a_wrong_request_names_its_parameter(ask: Ask, change: dict[str, Any], param: str) -> None:
    body = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    answer = ask("POST", PATH, body)
    assert answer.status == 400, answer.body
    assert answer.json["error"]["code"] == "invalid_argument"
    assert answer.json["error"]["message"].startswith(f"{param}: ")


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
STEP = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image", "user_input", "model_output", "thought", "function_call", "function_result"]),
        "role": st.sampled_from(["user", "model"]), "text": st.text(max_size=9), "content": JSON, "id": st.just("c1"),
        "call_id": st.sampled_from(["c1", "look"]), "name": st.just("look"), "result": JSON, "arguments": JSON, "data": JSON,
        "summary": JSON,
    },
)  # fmt: skip
FIELDS: dict[str, Any] = {
    "input": st.text(max_size=20) | STEP | st.lists(STEP, max_size=4) | JSON,
    "generation_config": st.dictionaries(st.sampled_from(["top_k", "seed", "tool_choice", "x"]), JSON, max_size=2),
    "tools": st.lists(st.just(LOOK) | JSON, max_size=2),
    "response_format": JSON,
    "response_mime_type": JSON | st.just("application/json"),
    "stream": st.booleans(),
    "agent": st.just("helper"),
    "anything": JSON,
}


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(change=st.fixed_dictionaries({}, optional=FIELDS), body=st.none() | st.binary(max_size=20))
def test_whatever_is_sent_the_answer_is_no_5xx(ask: Ask, change: dict[str, Any], body: bytes | None) -> None:
    answer = ask("POST", PATH, body or {**GOOD, **change})
    assert answer.status < 500, answer.body
    if answer.status != 200:
        assert set(answer.json["error"]) == {"code", "message"}
