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
    from lsbuild_runtime.routing import Site

_TYPES = {"inference": "llm", "agents": "llm", "embeddings": "embedding", "rerank": "rerank"}


class ModelObject(Struct):
    """OpenAI's model, then what Llama Stack adds to it in lists (``custom_metadata``) and alone (the other fields).

    ``created`` is 0: a reproducible build has no time.
    """

    id: str
    object: str
    created: int
    owned_by: str
    custom_metadata: dict[str, Any]
    identifier: str
    type: str
    model_type: str
    provider_id: str
    provider_resource_id: str
    metadata: dict[str, Any]


class ModelList(Struct):
    """All models."""

    object: str
    data: list[ModelObject]


def listing(app: Site, _request: Request, _: str) -> Response:
    """All models, in the order of the spec."""
    return json_response(
        ModelList("list", [describe(service) for service in app.services if service.api in MODEL_APIS])
    )


def retrieve(app: Site, _: Request, name: str) -> Response:
    """One model; its id may contain slashes."""
    service = app.services.find(MODEL_APIS, name)
    if service is None:
        raise model_not_found(name)
    return json_response(describe(service))


def describe(service: Service) -> ModelObject:
    """What is known of a model without opening it."""
    kind, provider = _TYPES[service.api], provider_id(service.provider)
    resource = str(service.metadata.get("provider_resource_id", service.name))
    known = {"model_type": kind, "provider_id": provider, "provider_resource_id": resource}
    return ModelObject(
        id=service.name,
        object="model",
        created=0,
        owned_by="lsbuild",
        custom_metadata={**service.metadata, **known, "provider_type": service.provider},
        identifier=service.name,
        type="model",
        **known,
        metadata=service.metadata,
    )
