"""Writes routes whose modules are imported by the first request for one, so that a cold start does not pay for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lsbuild_runtime.http import OPENAI_ERRORS
from lsbuild_runtime.routing import Route

GET, POST, PUT, DELETE = "GET", "POST", "PUT", "DELETE"
LIST = ("limit", "order", "after", "before")
"""The query of a list that is read page by page."""

Write = Callable[..., Route]


def routes_of(api: str, module: str, errors: Any = OPENAI_ERRORS) -> Write:
    """Writes routes of one API, whose handlers and Structs are in ``module`` below ``lsbuild_runtime.routes``.

    ``errors`` is how it words its errors, or where that is defined (see ``Route``).
    """

    def named(name: str) -> str | None:
        return name if ":" in name else f"{module}:{name}" if name else None

    def write(
        method: str,
        path: str,
        summary: str,
        handler: str,
        takes: str = "",
        gives: str = "",
        query: tuple[str, ...] = (),
        large: bool = False,
        form: bool = False,
        streams: bool = False,
        instant: bool = False,
    ) -> Route:
        return Route(
            method,
            path,
            api,
            summary,
            f"{module}:{handler}",
            takes=named(takes),
            gives=named(gives),
            query=query,
            large=large,
            form=form,
            streams=streams,
            instant=instant,
            errors=errors,
        )

    return write
