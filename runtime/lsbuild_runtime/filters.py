"""OpenAI's filter object of a search -> a small tree that every vector store compiles to its own queries; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from lsbuild_runtime.http import ApiError

MAX_DEPTH = 8
MAX_CONDITIONS = 100

OWN = ("filename", "heading")
"""Attributes that every passage has; a document's own attributes cannot replace them."""

Operator = Literal["eq", "gt", "gte", "lt", "lte"]
Kind = Literal["boolean", "number", "string"]


class Comparison(Struct, frozen=True):
    """One comparison. It holds for values of the same ``kind`` only: 3 is not "3", and ``gt`` of strings compares code
    points. A document without the attribute does not match."""

    key: str
    operator: Operator
    kind: Kind
    value: str | int | float


class Not(Struct, frozen=True):
    """Matches what ``part`` does not: a document without the attribute matches ``ne`` and ``nin``."""

    part: Filter


class All(Struct, frozen=True):
    """Matches when each part does."""

    parts: tuple[Filter, ...]


class Some(Struct, frozen=True):
    """Matches when one part does; without parts it matches nothing."""

    parts: tuple[Filter, ...]


Filter = Comparison | Not | All | Some


def parse(filters: Mapping[str, Any]) -> Filter:
    """The tree of a filter object. Anything else than OpenAI's shape is an ApiError 400 that names the field."""
    return _parse(filters, "filters", 0, iter(range(MAX_CONDITIONS)))


def clean(text: str) -> str:
    """A lone surrogate, which JSON can carry, has no UTF-8 form and is in no document."""
    return text.encode("utf-8", "replace").decode()


def _parse(node: object, at: str, depth: int, left: Iterator[int]) -> Filter:
    if not isinstance(node, Mapping):
        raise _bad(at, "must be an object with a type")
    if depth > MAX_DEPTH or next(left, None) is None:
        raise _bad(at, f"is too large: at most {MAX_CONDITIONS} conditions, nested at most {MAX_DEPTH} deep")
    match node.get("type"):
        case "and":
            return All(_parts(node, at, depth, left))
        case "or":
            return Some(_parts(node, at, depth, left))
        case "eq" | "gt" | "gte" | "lt" | "lte" as operator:
            return _test(_key(node, at), operator, _value(node, at), f"{at}.value")
        case "ne":
            return Not(_test(_key(node, at), "eq", _value(node, at), f"{at}.value"))
        case "in":
            return _one_of(node, at)
        case "nin":
            return Not(_one_of(node, at))
        case kind:
            raise _bad(f"{at}.type", f"is {kind!r}; it must be one of eq, ne, gt, gte, lt, lte, in, nin, and, or")


def _parts(node: Mapping[str, Any], at: str, depth: int, left: Iterator[int]) -> tuple[Filter, ...]:
    _only(node, at, {"type", "filters"})
    parts = node.get("filters")
    if not isinstance(parts, list | tuple) or not parts:
        raise _bad(f"{at}.filters", "must be a list with at least one filter")
    return tuple(_parse(part, f"{at}.filters[{index}]", depth + 1, left) for index, part in enumerate(parts))


def _one_of(node: Mapping[str, Any], at: str) -> Some:
    key, values = _key(node, at), node.get("value")
    if not isinstance(values, list | tuple) or len(values) > MAX_CONDITIONS:
        raise _bad(f"{at}.value", f"must be a list of at most {MAX_CONDITIONS} values for {node['type']!r}")
    return Some(tuple(_test(key, "eq", value, f"{at}.value[{index}]") for index, value in enumerate(values)))


def _key(node: Mapping[str, Any], at: str) -> str:
    _only(node, at, {"type", "key", "value"})
    key = node.get("key")
    if not isinstance(key, str) or not key:
        raise _bad(f"{at}.key", "must be the name of an attribute")
    return clean(key)


def _value(node: Mapping[str, Any], at: str) -> object:
    if "value" not in node:
        raise _bad(f"{at}.value", "is missing")
    return node["value"]


def _test(key: str, operator: Operator, value: object, at: str) -> Comparison:
    if isinstance(value, bool):
        return Comparison(key, operator, "boolean", value)
    if isinstance(value, int | float) and abs(value) < 2**63:
        return Comparison(key, operator, "number", value)
    if isinstance(value, str):
        return Comparison(key, operator, "string", clean(value))
    raise _bad(at, "must be a string, a number (below 2**63) or a boolean")


def _only(node: Mapping[str, Any], at: str, known: set[str]) -> None:
    for name in node:
        if name not in known:
            raise _bad(f"{at}.{name}", f"is not a field of this filter; it has {', '.join(sorted(known))}")


def _bad(at: str, fault: str) -> ApiError:
    return ApiError(400, f"{at} {fault}", param=at, code="invalid_filter")
