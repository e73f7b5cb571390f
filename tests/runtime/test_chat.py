"""POST /v1/chat/completions: whole and streamed answers have OpenAI's shape and the values the model gave."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lsbuild_runtime.app import App
from runtime_asking import Ask
from small_services import Parrot

PATH = "/v1/chat/completions"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def chat(text: Any = "one two three", **more: Any) -> dict[str, Any]:
    """A request to the parrot, which says ``text`` again."""
    return {"model": "org/parrot", "messages": [{"role": "user", "content": text}], **more}


def test_a_whole_answer(ask: Ask) -> None:
    body = ask("POST", PATH, chat()).json
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", "org/parrot")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "one two three", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_a_streamed_answer_says_the_same(ask: Ask) -> None:
    answer = ask("POST", PATH, chat(stream=True))
    assert answer.headers["content-type"] == "text/event-stream"
    events = answer.events
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in event["choices"][0]["delta"] for event in events[1:])
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "one two three"
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, None, "stop"]
    assert all("usage" not in event for event in events)


def test_a_stream_ends_with_its_usage_when_asked(ask: Ask) -> None:
    events = ask("POST", PATH, chat(stream=True, stream_options={"include_usage": True})).events
    assert all(event["usage"] is None for event in events[:-1])
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] == 6


def test_several_choices(ask: Ask) -> None:
    body = ask("POST", PATH, chat(n=3)).json
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["completion_tokens"] == 9
    events = ask("POST", PATH, chat(n=2, stream=True)).events
    roles = [event["choices"][0]["index"] for event in events if "role" in event["choices"][0]["delta"]]
    assert roles == [0, 1]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_tokens_under_both_names(ask: Ask, name: str) -> None:
    choice = ask("POST", PATH, chat(**{name: 2})).json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")


@pytest.mark.parametrize("stop", ["two", ["nothing", "two"]])
def test_stop_as_text_and_as_list(ask: Ask, stop: str | list[str]) -> None:
    assert ask("POST", PATH, chat(stop=stop)).json["choices"][0]["message"]["content"] == "one"


def test_log_probabilities(ask: Ask) -> None:
    found = ask("POST", PATH, chat("a a b", logprobs=True, top_logprobs=2)).json["choices"][0]["logprobs"]
    assert found["refusal"] is None
    assert [entry["token"] for entry in found["content"]] == ["a", " a", " b"]
    last = found["content"][-1]
    assert last["logprob"] == pytest.approx(math.log(1 / 3))
    assert bytes(last["bytes"]) == b" b"
    assert len(last["top_logprobs"]) == 2
    assert (
        ask("POST", PATH, chat("a b", logprobs=True)).json["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    )


def test_a_tool_call_whole_and_streamed(ask: Ask) -> None:
    wanted = chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "look"}})
    choice = ask("POST", PATH, wanted).json["choices"][0]
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"text": "x"}'}}
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    assert choice["finish_reason"] == "tool_calls"
    events = ask("POST", PATH, {**wanted, "stream": True}).events
    assert events[0]["choices"][0]["delta"]["tool_calls"] == [{**call, "index": 0}]


def test_a_whole_conversation_may_be_sent_back(ask: Ask) -> None:
    wanted = chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "look"}})
    message = ask("POST", PATH, wanted).json["choices"][0]["message"]
    back = {**message, "audio": None, "function_call": None, "annotations": []}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "it is red"}
    body = ask("POST", PATH, {**chat(), "messages": [*wanted["messages"], back, result], "tools": TOOLS}).json
    assert body["choices"][0]["message"]["content"] == "it is red"


def test_what_reaches_the_model(ask: Ask, app: App) -> None:
    parrot: Parrot = app.services.get("inference", "org/parrot")
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    ask(
        "POST", PATH,
        {
            **chat(), "messages": [{"role": "developer", "content": "short"}, {"role": "user", "content": parts}],
            "seed": 7, "temperature": 0, "top_p": 0.5, "top_k": 3, "logit_bias": {"5": -100}, "tools": TOOLS,
            "parallel_tool_calls": False, "presence_penalty": 1, "frequency_penalty": -1,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
            "chat_template_kwargs": {"thinking": False},
        },
    )  # fmt: skip
    sent = parrot.last
    assert sent is not None
    assert sent.messages == [{"role": "developer", "content": "short"}, {"role": "user", "content": "one\ntwo"}]
    assert (sent.sampling.seed, sent.sampling.temperature, sent.sampling.top_p, sent.sampling.top_k) == (7, 0, 0.5, 3)
    assert (sent.sampling.presence_penalty, sent.sampling.frequency_penalty) == (1, -1)
    assert sent.sampling.logit_bias == {5: -100}
    assert (sent.tools, sent.tool_choice, sent.parallel_tool_calls) == (TOOLS, "auto", False)
    assert sent.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"type": "object"}},
    }
    assert sent.extra == {"chat_template_kwargs": {"thinking": False}}
    assert sent.stream is False


def test_harmless_parameters_of_openais_clients_are_taken(ask: Ask) -> None:
    harmless = {
        "store": False, "user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "modalities": ["text"],
        "safety_identifier": "x", "prompt_cache_key": "y", "response_format": {"type": "text"}, "stream": False,
        "stop": None, "n": None, "tools": None, "tool_choice": None, "logprobs": None, "top_logprobs": None, "seed": None,
        "temperature": None, "top_p": None, "logit_bias": None, "max_tokens": None, "max_completion_tokens": None,
        "audio": None, "functions": None, "function_call": None, "prediction": None, "reasoning_effort": None,
        "web_search_options": None, "verbosity": None, "stream_options": None, "frequency_penalty": None,
    }  # fmt: skip
    answer = ask("POST", PATH, chat(**harmless))
    assert answer.status == 200, answer.body


def test_an_error_before_the_first_token_keeps_its_status(ask: Ask) -> None:
    answer = ask("POST", PATH, chat("word " * 300, stream=True))
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
