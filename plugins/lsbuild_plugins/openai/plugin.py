"""`remote::openai` for the builder: checks the settings and declares a service; nothing is compiled or fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Compiled, Given, Item, Problem, Service, config_problems
from lsbuild.spec.model import Model
from lsbuild.spec.secret import Secret
from lsbuild.spec.units import Seconds

_SERVE = "lsbuild_plugins.openai.serve"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_INLINE_ONLY = ("source", "quantize")


class Config(BaseModel):
    """Settings of a remote model under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    base_url: str
    """Where the API begins, with its version: ``https://api.example.com/v1``. May hold ``${env.NAME:=default}``."""
    api_key: Secret | None = None
    """The key for the Authorization header, as ``{secret: NAME}``."""
    model: str | None = None
    """The model's name over there; default: its name here."""
    timeout: Seconds = 60.0
    """Longest silence of the other side, such as ``60s``."""
    headers: dict[str, str | Secret] = {}
    """Further headers for each request."""
    tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name by which the other side knows the limit of generated tokens."""
    images: bool = True
    """Whether image parts of messages are passed on."""
    connections: int = Field(default=64, ge=1, le=4096)
    """Idle connections that are kept open at most."""


class OpenAI:
    """The compile half of `remote::openai`."""

    provider = "remote::openai"
    kinds = ("models",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``, and keys that only mean something for an inline model."""
        spec = _spec(item)
        if spec.type == "rerank":
            yield Problem(("type",), "remote::openai serves no rerank models: OpenAI's API has none; use inline::onnx")
        for key in _INLINE_ONLY:
            if getattr(spec, key) is not None:
                yield Problem((key,), f"'{key}' is for inline providers; a remote model has its weights over there")
        if faults := config_problems(Config, spec.config):
            yield from faults
            return
        config = Config.model_validate(spec.config)
        fault = url_fault(config.base_url)
        if fault:
            yield Problem(("config", "base_url"), fault)
        for name in config.headers:
            if not _HEADER.fullmatch(name):
                yield Problem(("config", "headers", name), f"{name!r} is not the name of an HTTP header")

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:  # noqa: ARG002
        """Nothing."""
        return ()

    def sources(self, item: Item) -> Mapping[str, str]:  # noqa: ARG002
        """Nothing."""
        return {}

    def compile(self, item: Item, given: Given) -> Compiled:  # noqa: ARG002
        """One service; the serve half and its HTTP parser travel with it."""
        return Compiled(services=(_service(item),), wheels=("httptools>=0.6.4",), code=(_SERVE,))


PLUGIN = OpenAI()


def url_fault(url: str) -> str:
    """What is wrong with a base URL, or ""; one with ``${env.`` in it is known only when the artifact runs."""
    if "${env." in url:
        return ""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"{url!r} is not a URL ({error}); write https://HOST/v1"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return f"{url!r} is not an http or https URL; write https://HOST/v1"
    if parts.query or parts.fragment:
        return f"{url!r} has a query or a fragment; paths such as /chat/completions are appended to it"
    if parts.username or parts.password:
        return "the URL holds a password; use api_key: {secret: NAME}"
    return ""


def _spec(item: Item) -> Model:
    return cast("Model", item.spec)


def _service(item: Item) -> Service:
    spec = _spec(item)
    config = Config.model_validate(spec.config)
    embeds = spec.type == "embedding"
    settings: dict[str, Any] = config.model_dump(exclude_none=True, exclude_defaults=True)
    settings["model"] = config.model or item.name
    metadata: dict[str, Any] = {"model_type": spec.type, "provider_resource_id": settings["model"]}
    if embeds and spec.dimensions is not None:
        metadata["embedding_dimension"] = spec.dimensions
    if not embeds:
        metadata["accepts"] = ["*"]
        metadata["modalities"] = ["text", "image"] if config.images else ["text"]
        if spec.context is not None:
            metadata["context_length"] = spec.context
    return Service(
        api="embeddings" if embeds else "inference",
        name=item.name,
        provider="remote::openai",
        entry=f"{_SERVE}:{'open_embeddings' if embeds else 'open_inference'}",
        config=settings,
        metadata=metadata,
    )
