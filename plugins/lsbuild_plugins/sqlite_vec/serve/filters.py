"""A filter -> SQL over ``chunks`` and ``attributes``; every value travels as a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lsbuild_runtime.filters import All, Comparison, Filter, Not, Some, parse

_OPERATORS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_FILES = "SELECT a.file FROM attributes a WHERE a.key = ? AND a.type = ?"
"""Of the whole table, not of one passage's file: asked once for each search, and SQLite may start from it."""
_OWN = {"filename": "f.filename", "heading": "c.heading"}


def condition(filters: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """A WHERE expression over ``chunks c JOIN files f``, with its parameters.

    What matches is told by `lsbuild_runtime.filters`; ApiError 400 for anything else than OpenAI's filter shape.
    """
    parameters: list[Any] = []
    return _sql(parse(filters), parameters), tuple(parameters)


def _sql(node: Filter, parameters: list[Any]) -> str:
    match node:
        case Comparison():
            return _test(node, parameters)
        case Not(part):
            return f"NOT {_sql(part, parameters)}"
        case All(parts):
            return f"({' AND '.join([_sql(part, parameters) for part in parts])})"
        case Some(parts):
            return f"({' OR '.join([_sql(part, parameters) for part in parts]) or '0'})"


def _test(test: Comparison, parameters: list[Any]) -> str:
    operator = _OPERATORS[test.operator]
    bound = int(test.value) if isinstance(test.value, bool) else test.value
    if column := _OWN.get(test.key):
        parameters.append(bound)
        return f"({column} {operator} ?)" if test.kind == "string" else "(? IS NULL)"
    parameters += [test.key, test.kind, bound]
    return f"c.file IN ({_FILES} AND a.value {operator} ?)"
