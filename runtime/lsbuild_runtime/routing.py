"""The route table: which handler answers a method and a path; it knows no handler and reads no body."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from lsbuild_runtime.http import ApiError, Request, Response

if TYPE_CHECKING:
    from lsbuild_runtime.manifest import Manifest
    from lsbuild_runtime.services import Services


class Site(Protocol):
    """What a handler sees of the application: what it serves, and whether it is shutting down."""

    manifest: Manifest
    services: Services
    table: Table
    draining: bool


Handler = Callable[[Site, Request, str], Response]
"""``(app, request, argument)``: the argument is the value of the path's one parameter, "" when it has none."""


class Route(Struct, frozen=True):
    """One operation. ``path`` may hold one parameter, ``{id}`` or ``{id:path}`` (which may contain slashes).

    ``takes`` and ``gives`` are the Structs of the bodies, for OpenAPI. ``query`` are the query parameters that are
    honoured; any other is refused. ``instant`` marks an answer from memory: it needs no worker and never queues.
    """

    method: str
    path: str
    api: str
    summary: str
    handler: Handler
    takes: Any = None
    gives: Any = None
    query: tuple[str, ...] = ()
    instant: bool = False
    streams: bool = False


class Table:
    """Finds routes: exact paths by one look-up, parameterised ones in the order given."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[str, str, bool, Route]] = []
        for route in self.routes:
            if "{" not in route.path:
                self._exact.setdefault(route.path, {})[route.method] = route
                continue
            prefix, rest = route.path.split("{", 1)
            name, suffix = rest.split("}", 1)
            self._patterns.append((prefix, suffix, name.endswith(":path"), route))

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """The route and its path argument; ApiError 404 for an unknown path, 405 for a method it does not have."""
        wanted = "GET" if method == "HEAD" else method
        known = self._exact.get(path)
        if known is not None and wanted in known:
            return known[wanted], ""
        allowed = set(known or ())
        for prefix, suffix, slashes, route in self._patterns:
            argument = _argument(path, prefix, suffix)
            if not argument or ("/" in argument and not slashes):
                continue
            if route.method == wanted:
                return route, argument
            allowed.add(route.method)
        if allowed:
            raise ApiError(
                405, f"{method} is not allowed on {path}; use {', '.join(sorted(allowed))}", code="method_not_allowed"
            )
        raise ApiError(404, f"no such route: {method} {path}; GET /v1/inspect/routes lists them", code="not_found")


def _argument(path: str, prefix: str, suffix: str) -> str:
    if not path.startswith(prefix) or not path.endswith(suffix):
        return ""
    return path[len(prefix) : len(path) - len(suffix)]
