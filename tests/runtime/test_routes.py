"""Every GET route answers with what OpenAI's and Llama Stack's clients read."""

from __future__ import annotations

import pytest

from lsbuild_runtime.app import App
from runtime_asking import Ask


def test_health_and_ready_answer_ok(ask: Ask) -> None:
    assert ask("GET", "/v1/health").json == {"status": "OK"}
    assert ask("GET", "/v1/ready").json == {"status": "OK"}


def test_ready_is_503_while_the_server_stops(app: App, ask: Ask) -> None:
    app.draining = True
    try:
        answer = ask("GET", "/v1/ready")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "5"
        assert ask("GET", "/v1/health").status == 200
    finally:
        app.draining = False


def test_version_names_bundle_and_platform(ask: Ask) -> None:
    assert ask("GET", "/v1/version").json == {
        "version": "0.1.0",
        "name": "small",
        "target": "host",
        "platform": "linux-x86_64-cp311",
    }


def test_the_front_page_says_where_the_api_is(ask: Ask) -> None:
    page = ask("GET", "/").json
    assert page["api"] == "/v1"
    assert page["models"] == ["org/parrot", "slow", "letters", "helper"]


def test_models_are_listed_with_llama_stacks_metadata(ask: Ask) -> None:
    models = {model["id"]: model for model in ask("GET", "/v1/models").json["data"]}
    assert list(models) == ["org/parrot", "slow", "letters", "helper"]
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in models.values())
    assert models["org/parrot"]["custom_metadata"] == {
        "model_type": "llm",
        "provider_id": "parrot",
        "provider_type": "inline::parrot",
        "provider_resource_id": "org/parrot",
        "context_length": 256,
    }
    assert models["letters"]["custom_metadata"]["model_type"] == "embedding"
    assert models["letters"]["custom_metadata"]["embedding_dimension"] == 26
    assert models["helper"]["custom_metadata"]["provider_id"] == "agent"


def test_a_model_id_may_contain_a_slash(ask: Ask) -> None:
    assert ask("GET", "/v1/models/org/parrot").json["id"] == "org/parrot"


def test_an_unknown_model_is_404_with_openais_code(ask: Ask) -> None:
    answer = ask("GET", "/v1/models/nobody")
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")


def test_providers_say_what_they_serve(ask: Ask) -> None:
    providers = ask("GET", "/v1/providers").json["data"]
    assert [(one["api"], one["provider_id"]) for one in providers] == [
        ("inference", "parrot"),
        ("embeddings", "letters"),
        ("vector_io", "shelf"),
        ("agents", "agent"),
    ]
    assert providers[0]["config"] == {"serves": ["org/parrot", "slow"]}
    assert providers[0]["health"] == {"status": "OK"}
    assert ask("GET", "/v1/providers/shelf").json == providers[2]
    assert ask("GET", "/v1/providers/nobody").status == 404


def test_routes_are_listed_and_filtered_by_api(ask: Ask, app: App) -> None:
    routes = ask("GET", "/v1/inspect/routes").json["data"]
    assert len(routes) == len(app.table.routes)
    chat = {"route": "/v1/chat/completions", "method": "POST", "provider_types": ["inline::parrot"]}
    assert chat in routes
    only = ask("GET", "/v1/inspect/routes", query={"api_filter": "vector_io"}).json["data"]
    assert {
        "/v1/vector_stores",
        "/v1/vector_stores/{id}",
        "/v1/vector_stores/{id}/search",
        "/v1/vector_stores/{id}/files/{file_id}",
        "/v1/vector-io/insert",
    } < {route["route"] for route in only}


def test_head_is_get_without_a_body(ask: Ask) -> None:
    answer = ask("HEAD", "/v1/health")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "15")


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/v1/nothing", 404, ""),
        ("GET", "/v1/health/", 404, ""),
        ("GET", "/v1/models/", 404, ""),
        ("GET", "/v1/vector_stores/a/b", 404, ""),
        ("GET", "/v1/vector_stores//search", 404, ""),
        ("POST", "/v1/models", 405, "GET"),
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("PUT", "/v1/vector_stores/manuals", 405, "DELETE, GET, POST"),
        ("PUT", "/v1/vector_stores/manuals/files/f", 405, "DELETE, GET, POST"),
        ("GET", "/v1/vector_stores/manuals/files/", 404, ""),
        ("GET", "/v1/vector_stores/manuals/files/f/content/x", 404, ""),
        ("GET", "/v1/vector_stores/manuals/search", 405, "POST"),
    ],
)
def test_unknown_paths_and_methods(ask: Ask, method: str, path: str, status: int, allowed: str) -> None:
    answer = ask(method, path)
    assert answer.status == status
    assert answer.error["message"].endswith(f"use {allowed}" if allowed else "lists them")
