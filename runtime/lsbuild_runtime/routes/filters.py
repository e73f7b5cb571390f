"""OpenAI's attribute filters: their shape and what makes sense of it; a store's provider does the filtering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from lsbuild_runtime.routes.wire import plain, refused

DEEPEST_FILTER = 8
MOST_FILTERS = 100
_LOGICAL = ("and", "or")
_LISTS = ("in", "nin")
_ORDERED = ("gt", "gte", "lt", "lte")


class Filter(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """OpenAI's comparison (``type``, ``key``, ``value``) or compound filter (``type`` and/or, ``filters``)."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"]
    key: str | None = None
    value: str | float | int | bool | list[str | float | int | bool] | None = None
    filters: list[Filter] | None = None


def checked_filter(given: Filter | None) -> Mapping[str, Any] | None:
    """The filter as OpenAI's JSON object; ApiError 400 names the part that makes no sense."""
    if given is None:
        return None
    _check_filter(given, "filters", 1, [0])
    checked: Mapping[str, Any] = plain(given)
    return checked


def _check_filter(given: Filter, place: str, depth: int, count: list[int]) -> None:
    count[0] += 1
    if depth > DEEPEST_FILTER or count[0] > MOST_FILTERS:
        raise refused("filters", f"at most {MOST_FILTERS} filters, nested at most {DEEPEST_FILTER} deep")
    if given.type in _LOGICAL:
        if not given.filters or given.key is not None or given.value is not None:
            raise refused(f"{place}.filters", f"{given.type!r} takes a non-empty list of filters, no key and no value")
        for index, inner in enumerate(given.filters):
            _check_filter(inner, f"{place}.filters[{index}]", depth + 1, count)
        return
    if given.filters is not None:
        raise refused(f"{place}.filters", f"{given.type!r} takes a key and a value")
    if not given.key:
        raise refused(f"{place}.key", f"{given.type!r} needs the key of an attribute", "missing_required_parameter")
    if given.value is None or isinstance(given.value, list) != (given.type in _LISTS):
        what = "a list of values" if given.type in _LISTS else "one value: a text, a number or a boolean"
        raise refused(f"{place}.value", f"{given.type!r} needs {what}")
    if given.type in _ORDERED and isinstance(given.value, bool):
        raise refused(f"{place}.value", f"{given.type!r} compares numbers or texts")
