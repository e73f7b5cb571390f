"""GET /v1/providers: who serves what in this bundle, and whether it can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from lsbuild_runtime.http import ApiError, Request, Response, json_response
from lsbuild_runtime.manifest import Service

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site


class ProviderInfo(Struct):
    """Llama Stack's description. ``config`` names what it serves; settings and secrets are not shown."""

    api: str
    provider_id: str
    provider_type: str
    config: dict[str, Any]
    health: dict[str, str]


class ProviderList(Struct):
    """All providers."""

    data: list[ProviderInfo]


def listing(app: Site, _request: Request, _: str) -> Response:
    """All providers, one entry for each API they serve."""
    return json_response(ProviderList(describe(app)))


def retrieve(app: Site, _: Request, name: str) -> Response:
    """The first provider of that id."""
    for info in describe(app):
        if info.provider_id == name:
            return json_response(info)
    raise ApiError(404, f"no provider {name[:100]!r}; GET /v1/providers lists them", code="provider_not_found")


def describe(app: Site) -> list[ProviderInfo]:
    """One entry for each pair of API and provider, in the order of the spec."""
    groups: dict[tuple[str, str], list[Service]] = {}
    for service in app.services:
        groups.setdefault((service.api, service.provider), []).append(service)
    return [
        ProviderInfo(
            api=api,
            provider_id=provider_id(provider),
            provider_type=provider,
            config={"serves": [service.name for service in services]},
            health=_health([fault for service in services for fault in app.services.faults(service)]),
        )
        for (api, provider), services in groups.items()
    ]


def provider_id(provider: str) -> str:
    """``inline::onnx`` -> ``onnx``."""
    return provider.rpartition("::")[2]


def _health(faults: list[str]) -> dict[str, str]:
    return {"status": "Error", "message": "; ".join(faults)} if faults else {"status": "OK"}
