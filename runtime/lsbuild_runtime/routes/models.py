"""GET /v1/models: every model and agent of the bundle, with Llama Stack's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from lsbuild_runtime.http import Request, Response, json_response
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.routes.providers import provider_id
from lsbuild_runtime.routes.sampling import model_not_found
from lsbuild_runtime.services import MODEL_APIS

if TYPE_CHECKING:
    from lsbuild_runtime.app import App

_TYPES = {"inference": "llm", "agents": "llm", "embeddings": "embedding"}


class ModelObject(Struct):
    """OpenAI's model with Llama Stack's ``custom_metadata``. ``created`` is 0: a reproducible build has no time."""

    id: str
    object: str
    created: int
    owned_by: str
    custom_metadata: dict[str, Any]


class ModelList(Struct):
    """All models."""

    object: str
    data: list[ModelObject]


def listing(app: App, _request: Request, _: str) -> Response:
    """All models, in the order of the spec."""
    return json_response(
        ModelList("list", [describe(service) for service in app.services if service.api in MODEL_APIS])
    )


def retrieve(app: App, _: Request, name: str) -> Response:
    """One model; its id may contain slashes."""
    service = app.services.find(MODEL_APIS, name)
    if service is None:
        raise model_not_found(name)
    return json_response(describe(service))


def describe(service: Service) -> ModelObject:
    """What is known of a model without opening it."""
    metadata = {
        "model_type": _TYPES[service.api],
        "provider_id": provider_id(service.provider),
        "provider_type": service.provider,
        "provider_resource_id": service.metadata.get("provider_resource_id", service.name),
        **service.metadata,
    }
    return ModelObject(service.name, "model", 0, "lsbuild", metadata)
