"""`remote::openai` for the builder: checks the settings and declares a service; nothing is compiled or fetched.

What is of shields stands in `shields`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast

from lsbuild.api import Compiled, Given, Item, Plugin, Problem, Service, config_problems
from lsbuild.spec.model import Model
from lsbuild_plugins.openai.connecting import SERVE, WHEELS, Connection, faults_of
from lsbuild_plugins.openai.shields import SHIELDS

_INLINE_ONLY = ("source", "quantize")


class Config(Connection):
    """Settings of a remote model under ``config``."""

    tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name by which the other side knows the limit of generated tokens."""
    images: bool = True
    """Whether image parts of messages are passed on."""


class OpenAI(Plugin):
    """The compile half of `remote::openai`."""

    provider = "remote::openai"
    kinds = ("models", "shields")

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``, and keys that only mean something for an inline model."""
        if item.kind == "shields":
            yield from SHIELDS.check(item)
            return
        spec = _spec(item)
        if spec.type == "rerank":
            yield Problem(("type",), "remote::openai serves no rerank models: OpenAI's API has none; use inline::onnx")
        for key in _INLINE_ONLY:
            if getattr(spec, key) is not None:
                yield Problem((key,), f"'{key}' is for inline providers; a remote model has its weights over there")
        if faults := config_problems(Config, spec.config):
            yield from faults
            return
        yield from faults_of(Config.model_validate(spec.config))

    def compile(self, item: Item, given: Given) -> Compiled:  # noqa: ARG002
        """One service; the serve half and its HTTP parser travel with it."""
        service = SHIELDS.service(item) if item.kind == "shields" else _service(item)
        return Compiled(services=(service,), wheels=WHEELS, code=(SERVE,))


PLUGIN = OpenAI()


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
        entry=f"{SERVE}:{'open_embeddings' if embeds else 'open_inference'}",
        config=settings,
        metadata=metadata,
    )
