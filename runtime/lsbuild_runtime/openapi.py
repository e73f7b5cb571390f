"""The OpenAPI 3.1 document, made from the route table and the Structs; GET /v1/openapi.json serves it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild_runtime import __version__
from lsbuild_runtime.routing import LLAMA_STACK, Route, found


class ErrorDetail(Struct):
    """What went wrong, where, and what to do."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    """The body of every 4xx and 5xx answer."""

    error: ErrorDetail


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document as a JSON value."""
    routes = tuple(routes)
    types = [found(kind) for route in routes for kind in (route.takes, route.gives) if kind is not None]
    unique = list(dict.fromkeys([*types, *map(_fault, routes)]))
    schemas, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(unique, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lsbuild runtime",
            "version": __version__,
            "description": f"Every path may have {LLAMA_STACK} before it, as clients of Llama Stack 0.2 and 0.3 ask.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.gives is not None:
        content["application/json"] = {"schema": schemas[found(route.gives)]}
    if route.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "tags": [route.api],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            "200": {"description": "OK", "content": content},
            "default": {
                "description": "An error",
                "content": {"application/json": {"schema": schemas[_fault(route)]}},
            },
        },
    }
    if route.takes is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {
                "multipart/form-data" if route.form else "application/json": {"schema": schemas[found(route.takes)]}
            },
        }
    return operation


def _fault(route: Route) -> Any:
    return found(route.errors).shape or ErrorBody


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = [part.split("}", 1)[0].removesuffix(":path") for part in route.path.split("{")[1:]]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in route.query]
