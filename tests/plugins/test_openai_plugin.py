"""`remote::openai` for the builder: what it refuses and what it declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Given, Item, Service
from lsbuild.spec.model import Model
from lsbuild_plugins.openai.plugin import PLUGIN

URL = "https://api.example.com/v1"


def item(config: dict[str, Any], **spec: Any) -> Item:
    """A model of a spec."""
    model = Model(**{"type": "llm", "provider": "remote::openai", "config": config, **spec})
    return Item("models", "cloud", "remote::openai", model, Path("spec"))


def service(config: dict[str, Any], **spec: Any) -> Service:
    """The one service it compiles to."""
    compiled = PLUGIN.compile(item(config, **spec), Given({}))
    assert compiled.steps == ()
    assert compiled.code == ("lsbuild_plugins.openai.serve",)
    (found,) = compiled.services
    return found


@pytest.mark.parametrize(
    ("config", "spec", "path"),
    [
        ({}, {}, ("config", "base_url")),
        ({"base_url": 7}, {}, ("config", "base_url")),
        ({"base_url": "api.example.com"}, {}, ("config", "base_url")),
        ({"base_url": "ftp://api.example.com"}, {}, ("config", "base_url")),
        ({"base_url": "http://"}, {}, ("config", "base_url")),
        ({"base_url": "http://host:99999/v1"}, {}, ("config", "base_url")),
        ({"base_url": f"{URL}?a=b"}, {}, ("config", "base_url")),
        ({"base_url": "https://me:word@api.example.com/v1"}, {}, ("config", "base_url")),
        ({"base_url": URL, "api_key": "sk-123"}, {}, ("config", "api_key")),
        ({"base_url": URL, "api_key": {"secret": "not a name"}}, {}, ("config", "api_key", "secret")),
        ({"base_url": URL, "timeout": 5}, {}, ("config", "timeout")),
        ({"base_url": URL, "modle": "x"}, {}, ("config", "modle")),
        ({"base_url": URL, "headers": {"a b": "c"}}, {}, ("config", "headers", "a b")),
        ({"base_url": URL}, {"source": "./weights"}, ("source",)),
        ({"base_url": URL}, {"quantize": "int4"}, ("quantize",)),
        ({"base_url": URL}, {"type": "rerank"}, ("type",)),
    ],
)
def test_faults_are_found_where_they_are(config: dict[str, Any], spec: dict[str, Any], path: tuple[str, ...]) -> None:
    (problem,) = PLUGIN.check(item(config, **spec))
    assert problem.path == path
    assert problem.message


@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:8000", "http://[::1]:8000/v1/", "${env.URL:=http://x/v1}"])
def test_these_urls_are_right(url: str) -> None:
    assert list(PLUGIN.check(item({"base_url": url}))) == []


def test_a_language_model_is_one_service() -> None:
    config = {"base_url": URL, "api_key": {"secret": "CLOUD_KEY"}, "model": "big", "timeout": "9s"}
    found = service(config, context=8192)
    assert (found.api, found.name, found.entry) == (
        "inference", "cloud", "lsbuild_plugins.openai.serve:open_inference",
    )  # fmt: skip
    assert found.config == {"base_url": URL, "api_key": {"secret": "CLOUD_KEY"}, "model": "big", "timeout": 9.0}
    assert found.metadata == {
        "model_type": "llm",
        "provider_resource_id": "big",
        "accepts": ["*"],
        "modalities": ["text", "image"],
        "context_length": 8192,
    }


def test_an_embedding_model_is_another_api() -> None:
    found = service({"base_url": URL}, type="embedding", dimensions=384)
    assert (found.api, found.entry) == ("embeddings", "lsbuild_plugins.openai.serve:open_embeddings")
    assert found.config == {"base_url": URL, "model": "cloud"}
    assert found.metadata == {"model_type": "embedding", "provider_resource_id": "cloud", "embedding_dimension": 384}


def test_images_can_be_turned_off() -> None:
    assert service({"base_url": URL, "images": False}).metadata["modalities"] == ["text"]
