"""The official clients of OpenAI and of Llama Stack (OGX) use responses and conversations on a live server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from ogx_client import OgxClient
from pydantic import BaseModel

from live_server import eventually, serving
from lsbuild_runtime.app import App
from responding import opened

FUNCTION: Any = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The application."""
    with opened(tmp_path_factory.mktemp("clients"), started=False) as made:
        yield made


@pytest.fixture(scope="module")
def client(app: App) -> Iterator[openai.OpenAI]:
    """OpenAI's client on a live server."""
    with serving(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def ogx(client: openai.OpenAI) -> Iterator[Any]:
    """Llama Stack's client on the same server."""
    with OgxClient(base_url=str(client.base_url).removesuffix("/v1/"), max_retries=0) as made:
        yield made


def test_create_and_go_on(client: openai.OpenAI) -> None:
    first = client.responses.create(model="actor", input="say Hello", metadata={"a": "b"})
    assert (first.output_text, first.status, first.metadata) == ("Hello", "completed", {"a": "b"})
    second = client.responses.create(model="actor", input="say Bye", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert client.responses.retrieve(second.id).output_text == "Bye"
    items = list(client.responses.input_items.list(second.id, order="asc"))
    assert [item.type for item in items] == ["message"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_what_was_answered_can_be_sent_back_as_it_came(client: openai.OpenAI) -> None:
    given: list[Any] = [{"role": "user", "content": 'call echo {"text": "a"}\nsay So ; call look\nsay Bye'}]
    first = client.responses.create(model="agent", input=given, tools=[FUNCTION], store=False)
    assert [item.type for item in first.output] == ["mcp_call", "message", "function_call"]
    call: Any = first.output[-1]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "seen"}
    back = [*given, *(item.to_dict() for item in first.output), output]
    second = client.responses.create(model="agent", input=back, tools=[FUNCTION], store=False)
    assert second.output_text == "Bye"


def test_the_stream_helper_puts_the_answer_together(client: openai.OpenAI) -> None:
    script = 'think Hm ; call file_search {"query": "red pump"}\nsay See [1]: needs oil every week.'
    with client.responses.stream(model="agent", input=script) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert final.output_text == "See [1]: needs oil every week."
    message: Any = final.output[-1]
    assert message.content[0].annotations[0].filename == "manual.md"


class Pump(BaseModel):
    """What is asked for."""

    color: str
    needs_oil: bool


def test_structured_answers_are_parsed(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model="actor", input='say {"color": "red", "needs_oil": true}', text_format=Pump)
    assert parsed.output_parsed == Pump(color="red", needs_oil=True)


def test_conversations(client: openai.OpenAI) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "I am Ada."}], metadata={"a": "b"})
    client.responses.create(model="actor", input="say Hello", conversation=conversation.id)
    client.conversations.items.create(conversation.id, items=[{"role": "user", "content": "Bye"}])
    items = list(client.conversations.items.list(conversation.id, limit=2, order="asc"))
    assert [item.type for item in items] == ["message"] * 4
    first: Any = items[0]
    assert client.conversations.items.retrieve(first.id, conversation_id=conversation.id) == first
    assert client.conversations.items.delete(first.id, conversation_id=conversation.id).id == conversation.id
    assert client.conversations.update(conversation.id, metadata={"a": "c"}).metadata == {"a": "c"}
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(conversation.id)


def test_background_is_polled_streamed_and_cancelled(client: openai.OpenAI, app: App) -> None:
    done = client.responses.create(model="actor", input="say Hello", background=True)
    assert done.status == "queued"
    assert eventually(lambda: client.responses.retrieve(done.id).status == "completed")
    events = list(client.responses.retrieve(done.id, stream=True))
    assert events[-1].type == "response.completed"
    rest = list(client.responses.retrieve(done.id, stream=True, starting_after=3))
    assert rest == events[4:]
    actor: Any = app.services.get("inference", "actor")
    stuck = client.responses.create(model="actor", input="wait ; say Hello", background=True)
    assert actor.waiting.wait(20)
    assert client.responses.cancel(stuck.id).status == "cancelled"


def test_includes_of_a_query(client: openai.OpenAI) -> None:
    made = client.responses.create(model="agent", input='call file_search {"query": "red pump"}\nsay See')
    several: Any = ["file_search_call.results", "message.output_text.logprobs"]
    search: Any = client.responses.retrieve(made.id, include=several).output[0]
    assert search.results[0].filename == "manual.md"
    without: Any = client.responses.retrieve(made.id).output[0]
    assert without.results is None


def test_compact_and_count(client: openai.OpenAI) -> None:
    compacted = client.responses.compact(model="actor", input="say Hello")
    assert compacted.output[-1].type == "compaction"
    assert client.responses.input_tokens.count(model="org/parrot", input="one two").input_tokens == 2


def test_errors_are_those_of_openai(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(
            model="actor", input="x", tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]
        )
    assert caught.value.param == "tools[0].type"
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="actor", input="fail 503", stream=True)


def test_ogx_responses_and_conversations(ogx: Any) -> None:
    made = ogx.responses.create(model="actor", input="say Hello")
    assert made.output[0].content[0].text == "Hello"
    assert ogx.responses.retrieve(made.id).id == made.id
    assert made.id in [each.id for each in ogx.responses.list()]
    items = ogx.responses.input_items.list(made.id)
    assert items.data[0].content[0].text == "say Hello"
    chunks = list(ogx.responses.create(model="actor", input="say Hello there", stream=True))
    assert (chunks[0].type, chunks[-1].type) == ("response.created", "response.completed")
    conversation = ogx.conversations.create(metadata={"a": "b"})
    ogx.responses.create(model="actor", input="say Hello", conversation=conversation.id)
    assert len(ogx.conversations.items.list(conversation.id).data) == 2
    assert ogx.responses.delete(made.id).deleted
