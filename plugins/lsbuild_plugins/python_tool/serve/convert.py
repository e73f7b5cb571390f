"""Between JSON and the types of a tool's functions; loaded by ``child`` as a file, it imports the standard library only."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import types
import typing
from collections.abc import Callable
from typing import Any

_LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    tuple: tuple,
    collections.abc.Sequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
}


class NotJsonError(Exception):
    """A result has no JSON form."""


def arguments(function: Any, given: dict[str, Any]) -> dict[str, Any]:
    """``given`` with enums, dataclasses, dates and sets made of their JSON, as the function's annotations say."""
    hints = typing.get_type_hints(function)
    return {name: _made(hints.get(name, Any), value) for name, value in given.items()}


def _made(kind: Any, value: Any) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(inner, value)
    if origin in _LISTS and isinstance(value, list):
        if origin is tuple and inner and inner[-1] is not Ellipsis:
            return tuple(_made(each, item) for each, item in zip(inner, value, strict=False))
        return _LISTS[origin]([_made(inner[0] if inner else Any, each) for each in value])
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping) and isinstance(value, dict):
        return {key: _made(inner[1] if len(inner) > 1 else Any, each) for key, each in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(kind, type):
        return value
    return _of_class(kind, value)


def _of_class(kind: type, value: Any) -> Any:
    if issubclass(kind, enum.Enum):
        return kind(value)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _made(hints.get(name, Any), each) for name, each in value.items()})
    if typing.is_typeddict(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        return {name: _made(hints.get(name, Any), each) for name, each in value.items()}
    if kind is datetime.datetime or kind is datetime.date:
        return kind.fromisoformat(value) if isinstance(value, str) else value
    return _LISTS[kind](value) if kind in _LISTS and isinstance(value, list) else value


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    """The first of the kinds that takes the value."""
    for kind in kinds:
        origin = typing.get_origin(kind) or kind
        try:
            made = _made(kind, value)
        except (TypeError, ValueError, KeyError):
            continue
        if origin in (Any, typing.Literal) or not isinstance(origin, type) or typing.is_typeddict(origin):
            if typing.get_origin(kind) is not typing.Literal or value in typing.get_args(kind):
                return made
        elif isinstance(made, origin):
            return made
    return value


def plain(value: Any) -> Any:
    """A result as JSON values. NotJsonError names the type that has none."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, collections.abc.Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(each) for each in value), key=repr)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise NotJsonError(f"it gave a {type(value).__name__}, which is not JSON")
