"""A filter -> SQL over passages ``p`` and documents ``f``; every key and value travels as a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

from psycopg import sql

from lsbuild_plugins.pgvector.serve.values import stored
from lsbuild_runtime.filters import All, Comparison, Filter, Not, Some, parse

_OPERATORS = {"eq": sql.SQL("="), "gt": sql.SQL(">"), "gte": sql.SQL(">="), "lt": sql.SQL("<"), "lte": sql.SQL("<=")}
_OWN = {"filename": sql.SQL("f.filename"), "heading": sql.SQL("p.heading")}
_TYPES: dict[str, LiteralString] = {"boolean": "boolean", "number": "numeric"}

Parameters = dict[str, Any]


def condition(filters: Mapping[str, Any]) -> tuple[sql.Composable, Parameters]:
    """An expression that is true or false, never NULL, with its parameters (``filter0`` ...).

    What matches is told by `lsbuild_runtime.filters`; ApiError 400 for anything else than OpenAI's filter shape.
    """
    parameters: Parameters = {}
    return _sql(parse(filters), parameters), parameters


def _sql(node: Filter, parameters: Parameters) -> sql.Composable:
    match node:
        case Comparison():
            return _comparison(node, parameters)
        case Not(part):
            return sql.SQL("NOT {}").format(_sql(part, parameters))
        case All(parts):
            return _joined(" AND ", parts, parameters)
        case Some(parts):
            return _joined(" OR ", parts, parameters) if parts else sql.SQL("false")


def _joined(operator: str, parts: tuple[Filter, ...], parameters: Parameters) -> sql.Composable:
    return sql.SQL("({})").format(sql.SQL(operator).join([_sql(part, parameters) for part in parts]))


def _comparison(test: Comparison, parameters: Parameters) -> sql.Composable:
    """jsonb orders values of different types too, and strings by locale: hence the type first, and collation "C"."""
    operator = _OPERATORS[test.operator]
    value = stored(test.value) if isinstance(test.value, str) else test.value
    if column := _OWN.get(test.key):
        if test.kind != "string":
            return sql.SQL("false")
        return sql.SQL("({} {} {}::text)").format(column, operator, _bound(value, parameters))
    found = sql.SQL("f.attributes -> {}::text").format(_bound(stored(test.key), parameters))
    typed = sql.SQL("jsonb_typeof({}) = {}").format(found, sql.Literal(test.kind))
    if test.kind == "string":
        compared = sql.SQL("({} #>> '{{}}') COLLATE \"C\" {} {}::text").format(
            sql.SQL("({})").format(found), operator, _bound(value, parameters)
        )
    else:
        compared = sql.SQL("({}) {} to_jsonb({}::{})").format(
            found,
            operator,
            _bound(value if isinstance(value, bool) else repr(value), parameters),
            sql.SQL(_TYPES[test.kind]),
        )
    return sql.SQL("coalesce({} AND {}, false)").format(typed, compared)


def _bound(value: str | float, parameters: Parameters) -> sql.Placeholder:
    name = f"filter{len(parameters)}"
    parameters[name] = value
    return sql.Placeholder(name)
