"""GET /, /v1/live, /v1/health, /v1/ready, /v1/version, /v1/inspect/routes and /v1/openapi.json: the server about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from lsbuild_runtime import __version__
from lsbuild_runtime.http import ApiError, Request, Response, json_response
from lsbuild_runtime.ports import Placement

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site


class Health(Struct, omit_defaults=True):
    """The server is well. ``models`` says where those run that may run on something else than the CPU."""

    status: str
    models: dict[str, Placement] = {}


class Version(Struct):
    """The version of the runtime and what it serves."""

    version: str
    name: str
    target: str
    platform: str


class RouteInfo(Struct):
    """One route, as Llama Stack lists it."""

    route: str
    method: str
    provider_types: list[str]


class RouteList(Struct):
    """All routes."""

    data: list[RouteInfo]


class Welcome(Struct):
    """What a person who opens the address is told."""

    name: str
    what: str
    api: str
    openapi: str
    models: list[str]


def home(app: Site, _request: Request, _: str) -> Response:
    """What this is and where the API lives."""
    models = [service.name for service in app.services if service.api in ("inference", "agents", "embeddings")]
    what = "An OpenAI and Llama Stack compatible server built by lsbuild; POST /v1/chat/completions"
    return json_response(Welcome(app.manifest.name, what, "/v1", "/v1/openapi.json", models))


def live(_app: Site, _request: Request, _: str) -> Response:
    """200 as soon as the process answers."""
    return json_response(Health("OK"))


def health(app: Site, _request: Request, _: str) -> Response:
    """The same, but 503 with the progress while services are opened at the start, and with the reason when one cannot be."""
    if app.preparing is None:
        return json_response(Health("OK"))
    app.preparing.require()
    return json_response(Health("OK", dict(app.preparing.placements())))


def ready(app: Site, _request: Request, _: str) -> Response:
    """200 when every service is open or can be opened; 503 with the reasons, or while the server is stopping."""
    if app.draining:
        raise ApiError(503, "the server is stopping", type="server_error", code="stopping", retry_after=5)
    if app.preparing is not None:
        app.preparing.require()
    faults = [fault for service in app.services for fault in app.services.faults(service)]
    if faults:
        raise ApiError(503, f"not ready: {'; '.join(faults[:5])}", type="server_error", code="not_ready")
    return json_response(Health("OK"))


def version(app: Site, _request: Request, _: str) -> Response:
    """The version."""
    manifest = app.manifest
    return json_response(Version(__version__, manifest.name, manifest.target, manifest.platform))


def routes(app: Site, request: Request, _: str) -> Response:
    """The routes, with the providers behind them; ``api_filter`` keeps one API's."""
    wanted = request.query.get("api_filter", "")
    data = []
    for route in app.table.routes:
        if wanted and route.api != wanted:
            continue
        types = sorted({service.provider for service in app.services if service.api == route.api})
        data.append(RouteInfo(route.path, route.method, types))
    return json_response(RouteList(data))


def openapi(app: Site, _request: Request, _: str) -> Response:
    """The description of this API, made from the route table."""
    from lsbuild_runtime.openapi import document  # a cold path: the schemas are made when somebody asks

    return json_response(document(app.table.routes))
