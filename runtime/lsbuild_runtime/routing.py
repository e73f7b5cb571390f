"""The route table: which handler answers a method and a path; it knows no handler and reads no body."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from msgspec import Struct

from lsbuild_runtime.http import DONE, OPENAI_ERRORS, ApiError, Errors, Request, Response, Watch

if TYPE_CHECKING:
    from lsbuild_runtime.manifest import Manifest
    from lsbuild_runtime.preparing import Preparing
    from lsbuild_runtime.services import Services
    from lsbuild_runtime.stores import Stores
    from lsbuild_runtime.traffic import Traffic


LLAMA_STACK = "/v1/openai"
"""Before the path of every route it is the same route: clients of Llama Stack 0.2 and 0.3 ask ``/v1/openai/v1/...``."""


def older(path: str) -> bool:
    """Whether a client of Llama Stack 0.2 or 0.3 asks."""
    return path.startswith(f"{LLAMA_STACK}/v1/")


def undone(chunks: Generator[bytes]) -> Iterator[bytes]:
    """A stream without ``[DONE]``, which those clients take for one more piece of the answer."""
    with closing(chunks):
        for chunk in chunks:
            if chunk := chunk.removesuffix(DONE):
                yield chunk


class Kept(Protocol):
    """What an application keeps between requests, in its state folder or elsewhere."""

    def close(self) -> None:
        """Stop the work in the background; what is not finished goes on with the next start."""
        ...


K = TypeVar("K", bound=Kept)


class Site(Protocol):
    """What a handler sees of the application: what it serves, and whether it is shutting down."""

    manifest: Manifest
    services: Services
    stores: Stores
    table: Table
    traffic: Traffic
    observe: Callable[[str], Watch]
    clock: Callable[[], float]
    draining: bool
    preparing: Preparing | None

    def kept(self, kind: Callable[[Site], K]) -> K:
        """The one ``kind(site)`` of this application, made by whoever asks first and closed with it."""
        ...

    def background(self, request: Request) -> Response:
        """Answer a request that no client waits for."""
        ...


Handler = Callable[..., Response]
"""``(app, request, *arguments)``: the values of the path's parameters in their order; "" when it has none."""


class Route(Struct, frozen=True):
    """One operation. ``path`` may hold parameters, ``{id}``, the last of them ``{id:path}`` (which may contain slashes).

    ``takes`` and ``gives`` are the Structs of the bodies, for OpenAPI. ``query`` are the query parameters that are
    honoured; any other is refused. ``instant`` marks an answer from memory: it needs no worker and never queues.
    ``large`` marks a body that may be as large as ``server.upload`` says, ``form`` one that is multipart/form-data.
    ``errors`` is the http.Errors of another API than OpenAI's. The handler, the Structs and the errors of a rare route
    are named as ``"module:attr"`` below ``lsbuild_runtime.routes``, and imported when they are needed.
    """

    method: str
    path: str
    api: str
    summary: str
    handler: Handler | str
    takes: Any = None
    gives: Any = None
    query: tuple[str, ...] = ()
    instant: bool = False
    streams: bool = False
    large: bool = False
    form: bool = False
    errors: Errors | str = OPENAI_ERRORS

    def answer(self, app: Site, request: Request, arguments: tuple[str, ...]) -> Response:
        """Call the handler."""
        handler: Handler = found(self.handler)
        return handler(app, request, *(arguments or ("",)))


def found(named: Any) -> Any:
    """What ``"module:attr"`` names; anything else is itself."""
    if not isinstance(named, str):
        return named
    module, _, attribute = named.partition(":")
    return getattr(import_module(f"lsbuild_runtime.routes.{module}"), attribute)


class Table:
    """Finds routes: exact paths by one look-up, parameterised ones by their segments, in the order given."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[tuple[str, ...], bool, Route]] = []
        for route in self.routes:
            if "{" not in route.path:
                self._exact.setdefault(route.path, {})[route.method] = route
                continue
            parts = ("" if part.startswith("{") else part for part in route.path.split("/")[1:])
            self._patterns.append((tuple(parts), route.path.endswith(":path}"), route))

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]]:
        """The route and its path arguments; ApiError 404 for an unknown path, 405 for a method it does not have."""
        wanted = "GET" if method == "HEAD" else method
        asked, path = path, path.removeprefix(LLAMA_STACK) if older(path) else path
        known = self._exact.get(path)
        if known is not None and wanted in known:
            return known[wanted], ()
        allowed = set(known or ())
        for pattern, slashes, route in self._patterns:
            arguments = _arguments(path, pattern, slashes)
            if not arguments:
                continue
            if route.method == wanted:
                return route, arguments
            allowed.add(route.method)
        if allowed:
            raise ApiError(
                405, f"{method} is not allowed on {asked}; use {', '.join(sorted(allowed))}", code="method_not_allowed"
            )
        raise ApiError(404, f"no such route: {method} {asked}; GET /v1/inspect/routes lists them", code="not_found")


def _arguments(path: str, pattern: tuple[str, ...], slashes: bool) -> tuple[str, ...]:
    """What stands in ``path`` where the pattern has "", none of it empty; an empty tuple when they do not fit."""
    parts = path.split("/", len(pattern) if slashes else -1)[1:]
    if len(parts) != len(pattern) or not path.startswith("/"):
        return ()
    if any(not part if not name else part != name for part, name in zip(parts, pattern, strict=True)):
        return ()
    return tuple(part for part, name in zip(parts, pattern, strict=True) if not name)
