"""Lists as OpenAI pages them: ``limit``, ``order``, ``after`` and ``before`` over values that have ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from lsbuild_runtime.routes.wire import refused

T = TypeVar("T")


class Part(Struct, Generic[T], frozen=True):
    """A page: its values and whether there are more behind them."""

    values: list[T]
    more: bool


def page(values: Sequence[T], id_of: Callable[[T], str], query: Mapping[str, str]) -> Part[T]:
    """The page of ``values`` (oldest first) that the query asks for; newest first unless ``order`` is asc.

    ``after`` gives what follows that id in the order asked for, ``before`` what stands in front of it, as its last page.
    """
    ordered = list(values) if one_of(query, "order", ("asc", "desc"), "desc") == "asc" else list(reversed(values))
    ids = [id_of(value) for value in ordered]
    if "after" in query:
        ordered = ordered[_position(ids, query, "after") + 1 :]
    size = limit(query)
    if "before" in query:
        ordered = ordered[: max(0, len(ordered) - (len(ids) - _position(ids, query, "before")))]
        return Part(ordered[-size:], len(ordered) > size)
    return Part(ordered[:size], len(ordered) > size)


def limit(query: Mapping[str, str], default: int = 20, most: int = 100) -> int:
    """The number of values on a page; ApiError 400 beyond 1 to ``most``."""
    text = query.get("limit", str(default))
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 1 <= int(text) <= most:
        raise refused("limit", f"expected a whole number from 1 to {most}, got {text[:20]!r}")
    return int(text)


def one_of(query: Mapping[str, str], name: str, values: tuple[str, ...], default: str) -> str:
    """A query parameter that must be one of ``values``."""
    value = query.get(name, default)
    if value not in values:
        raise refused(name, f"expected one of {', '.join(values)}, got {value[:20]!r}")
    return value


def _position(ids: list[str], query: Mapping[str, str], parameter: str) -> int:
    if query[parameter] not in ids:
        raise refused(parameter, f"{query[parameter][:100]!r} is not in this list")
    return ids.index(query[parameter])
