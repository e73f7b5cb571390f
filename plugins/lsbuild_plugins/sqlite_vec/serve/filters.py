"""OpenAI's attribute filters -> SQL over ``chunks`` and ``attributes``; every value travels as a parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lsbuild_runtime.http import ApiError

MAX_DEPTH = 8
MAX_CONDITIONS = 100

_COMPARE = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_JOIN = {"and": " AND ", "or": " OR "}
_OF_FILE = "SELECT 1 FROM attributes a WHERE a.file = c.file AND a.key = ? AND a.type = ?"
_OWN = {"filename": "f.filename", "heading": "c.heading"}
"""Attributes that every passage has; a document's own attributes cannot replace them."""


def condition(filters: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """A WHERE expression over ``chunks c JOIN files f``, with its parameters.

    Comparisons need the same type: 3 is not "3", and ``gt`` of a string compares code points. A document without the
    attribute matches ``ne`` and ``nin`` only. Anything else than OpenAI's filter shape is an ApiError 400 that names
    the field.
    """
    parameters: list[Any] = []
    conditions = _Counter()
    sql = "".join(_compile(filters, "filters", 0, parameters, conditions))
    return sql, tuple(parameters)


class _Counter:
    def __init__(self) -> None:
        self.value = 0


def _compile(node: object, at: str, depth: int, parameters: list[Any], seen: _Counter) -> Iterator[str]:
    if not isinstance(node, Mapping):
        raise _bad(at, "must be an object with a type")
    seen.value += 1
    if depth > MAX_DEPTH or seen.value > MAX_CONDITIONS:
        raise _bad(at, f"is too large: at most {MAX_CONDITIONS} conditions, nested at most {MAX_DEPTH} deep")
    kind = node.get("type")
    if kind in ("and", "or"):
        yield from _compound(node, at, depth, parameters, seen)
    elif kind in _COMPARE or kind in ("ne", "in", "nin"):
        yield _comparison(node, at, parameters)
    else:
        raise _bad(f"{at}.type", f"is {kind!r}; it must be one of eq, ne, gt, gte, lt, lte, in, nin, and, or")


def _compound(node: Mapping[str, Any], at: str, depth: int, parameters: list[Any], seen: _Counter) -> Iterator[str]:
    _only(node, at, {"type", "filters"})
    parts = node.get("filters")
    if not isinstance(parts, list | tuple) or not parts:
        raise _bad(f"{at}.filters", "must be a list with at least one filter")
    yield "("
    for index, part in enumerate(parts):
        yield _JOIN[node["type"]] if index else ""
        yield from _compile(part, f"{at}.filters[{index}]", depth + 1, parameters, seen)
    yield ")"


def _comparison(node: Mapping[str, Any], at: str, parameters: list[Any]) -> str:
    _only(node, at, {"type", "key", "value"})
    kind, key = node["type"], node.get("key")
    if not isinstance(key, str) or not key:
        raise _bad(f"{at}.key", "must be the name of an attribute")
    if kind in ("ne", "nin"):
        positive = {**node, "type": "eq" if kind == "ne" else "in"}
        return f"NOT {_comparison(positive, at, parameters)}"
    if kind == "in":
        values = node.get("value")
        if not isinstance(values, list | tuple) or len(values) > MAX_CONDITIONS:
            raise _bad(f"{at}.value", f"must be a list of at most {MAX_CONDITIONS} values for {kind!r}")
        tests = [_test(key, "=", value, f"{at}.value[{i}]", parameters) for i, value in enumerate(values)]
        return f"({' OR '.join(tests) or '0'})"
    if "value" not in node:
        raise _bad(f"{at}.value", "is missing")
    return _test(key, _COMPARE[kind], node["value"], f"{at}.value", parameters)


def _test(key: str, operator: str, value: object, at: str, parameters: list[Any]) -> str:
    kind, bound = _typed(value, at)
    if column := _OWN.get(key):
        parameters.append(bound)
        return f"({column} {operator} ?)" if kind == "string" else "(? IS NULL)"
    parameters += [_text(key), kind, bound]
    return f"EXISTS ({_OF_FILE} AND a.value {operator} ?)"


def _typed(value: object, at: str) -> tuple[str, str | int | float]:
    if isinstance(value, bool):
        return "boolean", int(value)
    if isinstance(value, int | float) and abs(value) < 2**63:
        return "number", value
    if isinstance(value, str):
        return "string", _text(value)
    raise _bad(at, "must be a string, a number (below 2**63) or a boolean")


def _text(value: str) -> str:
    """A lone surrogate, which JSON can carry, has no UTF-8 form and is in no document."""
    return value.encode("utf-8", "replace").decode()


def _only(node: Mapping[str, Any], at: str, known: set[str]) -> None:
    for name in node:
        if name not in known:
            raise _bad(f"{at}.{name}", f"is not a field of this filter; it has {', '.join(sorted(known))}")


def _bad(at: str, fault: str) -> ApiError:
    return ApiError(400, f"{at} {fault}", param=at, code="invalid_filter")
