"""The official clients of OpenAI and of Llama Stack (OGX) read every answer as they read the originals'."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from ogx_client import NotFoundError, OgxClient

from live_server import serving
from lsbuild_runtime.app import App
from small_services import small_manifest

QUESTION: openai.types.chat.ChatCompletionUserMessageParam = {"role": "user", "content": "one two three"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server over all small services."""
    with serving(App(small_manifest(), tmp_path_factory.mktemp("clients"))) as url:
        yield url


@pytest.fixture(scope="module")
def client(base: str) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    with openai.OpenAI(base_url=f"{base}/v1", api_key="unused", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def ogx(base: str) -> Iterator[Any]:
    """Llama Stack's client; untyped here, for its types are unions with other vendors' answers."""
    with OgxClient(base_url=base, max_retries=0) as opened:
        yield opened


def test_openai_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["org/parrot", "slow", "letters", "helper"]
    assert client.models.retrieve("org/parrot").owned_by == "lsbuild"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


def test_every_route_is_there_behind_the_prefix_of_older_clients_of_llama_stack(base: str) -> None:
    with openai.OpenAI(base_url=f"{base}/v1/openai/v1", api_key="unused", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["org/parrot", "slow", "letters", "helper"]
        assert client.models.retrieve("org/parrot").id == "org/parrot"
        answer = client.chat.completions.create(model="org/parrot", messages=[QUESTION])
        assert answer.choices[0].message.content == "one two three"
        body = {"model": "org/parrot", "messages": [QUESTION], "stream": True}
        with client.chat.completions.with_streaming_response.create(**body) as raw:  # type: ignore[call-overload]
            lines = [line for line in raw.iter_lines() if line]
        assert lines and all(line.startswith("data: {") for line in lines)
        with pytest.raises(openai.NotFoundError, match="no such route: GET /v1/openai/v1/nowhere"):
            client.get("/nowhere", cast_to=object)
        with pytest.raises(openai.APIStatusError, match="GET is not allowed on /v1/openai/v1/chat/completions"):
            client.get("/chat/completions", cast_to=object)
        with pytest.raises(openai.NotFoundError, match="no such route: GET /v1/openai/models"):
            client.get(f"{base}/v1/openai/models", cast_to=object)


def test_openai_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="org/parrot", messages=[QUESTION], logprobs=True, top_logprobs=1, n=2)
    assert [choice.message.content for choice in answer.choices] == ["one two three"] * 2
    assert answer.usage is not None
    assert answer.usage.total_tokens == 9
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [token.token for token in logprobs.content] == ["one", " two", " three"]


def test_openai_chat_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="org/parrot", messages=[QUESTION], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


def test_openai_stream_helper_puts_the_answer_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="org/parrot",
        messages=[QUESTION],
        tools=[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        tool_choice={"type": "function", "function": {"name": "look"}},
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].function.name, calls[0].function.arguments) == ("look", '{"text": "x"}')


def test_openai_refusals(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="org/parrot", messages=[QUESTION], temperature=3)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="org/parrot", messages=[QUESTION], store=True)
    assert caught.value.param == "store"


def test_openai_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="org/parrot", prompt=["a b", "c"], logprobs=1, echo=True, max_tokens=5)
    assert [choice.text for choice in answer.choices] == ["a ba b", "cc"]
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.text_offset == [0, 1, 3, 4]
    chunks = list(client.completions.create(model="org/parrot", prompt=[1, 2], stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "w1 w2"


def test_openai_embeddings(client: openai.OpenAI) -> None:
    """The client asks for base64 by default and decodes it itself."""
    found = client.embeddings.create(model="letters", input=["abc", "zzz"], dimensions=4)
    assert [len(item.embedding) for item in found.data] == [4, 4]
    plain = client.embeddings.create(model="letters", input=["abc"], dimensions=4, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(found.data[0].embedding)
    assert found.usage.prompt_tokens == 2


def test_openai_vector_stores(client: openai.OpenAI) -> None:
    stores = client.vector_stores.list(limit=5, order="asc")
    assert [store.id for store in stores] == ["manuals"]
    assert client.vector_stores.retrieve("manuals").file_counts.completed == 1
    hits = client.vector_stores.search(
        "manuals",
        query="red pump",
        max_num_results=2,
        filters={"type": "eq", "key": "heading", "value": "Pumps"},
        ranking_options={"ranker": "auto", "score_threshold": 0.1},
        rewrite_query=False,
    )
    assert [hit.content[0].text for hit in hits] == [
        "The red pump needs oil every week.",
        "The blue pump needs no oil.",
    ]


def test_openai_agent_with_citations(client: openai.OpenAI) -> None:
    question: openai.types.chat.ChatCompletionUserMessageParam = {"role": "user", "content": "red pump"}
    message = client.chat.completions.create(model="helper", messages=[question]).choices[0].message
    assert message.annotations is not None
    citation: Any = message.annotations[0].to_dict()
    assert citation["type"] == "file_citation"
    chunks = list(client.chat.completions.create(model="helper", messages=[question], stream=True))
    last = chunks[-1].choices[0]
    assert last.finish_reason == "stop"
    delta: Any = last.delta.to_dict()
    assert delta["annotations"][0] == citation


def test_ogx_inspects(ogx: Any) -> None:
    assert ogx.inspect.health().status == "OK"
    assert ogx.inspect.version().version == "0.1.0"
    assert any(route.route == "/v1/chat/completions" for route in ogx.routes.list())
    providers = ogx.providers.list()
    assert [provider.provider_id for provider in providers] == ["parrot", "letters", "shelf", "agent"]
    assert ogx.providers.retrieve("shelf").provider_type == "inline::shelf"


def test_ogx_administers(ogx: Any) -> None:
    admin = ogx.alpha.admin
    assert admin.health().status == "OK"
    assert admin.version().version == ogx.inspect.version().version
    assert [each.provider_id for each in admin.list_providers()] == ["parrot", "letters", "shelf", "agent"]
    assert admin.inspect_provider("shelf").provider_type == "inline::shelf"
    assert admin.list_routes() == ogx.routes.list()


def test_ogx_models(ogx: Any) -> None:
    models = {model.id: model for model in ogx.models.list().data}
    assert models["letters"].model_type == "embedding"
    assert models["org/parrot"].provider_id == "parrot"
    assert models["helper"].model_type == "llm"
    assert ogx.models.retrieve("org/parrot").provider_resource_id == "org/parrot"
    with pytest.raises(NotFoundError):
        ogx.models.retrieve("nobody")


def test_ogx_chat_completions_and_embeddings(ogx: Any) -> None:
    create = functools.partial(ogx.chat.completions.create, model="org/parrot", messages=[QUESTION])
    assert create().choices[0].message.content == "one two three"
    chunks = list(create(stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"
    assert ogx.completions.create(model="org/parrot", prompt="a b").choices[0].text == "a b"
    assert len(ogx.embeddings.create(model="letters", input="abc").data[0].embedding) == 26


def test_ogx_vector_stores(ogx: Any) -> None:
    assert [store.id for store in ogx.vector_stores.list()] == ["manuals"]
    assert ogx.vector_stores.retrieve("manuals").usage_bytes > 0
    page = ogx.vector_stores.search("manuals", query="red pump", max_num_results=1, search_mode="keyword")
    assert page.search_query == ["red pump"]
    assert page.data[0].filename == "manual.md"
    assert page.data[0].attributes is not None
    assert page.data[0].attributes["heading"] == "Pumps"
