"""What pydantic found, in words a person can act on, at the place where it stands; pure."""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterable, Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from lsbuild.errors import Problem
from lsbuild.spec.marks import Node, Path, is_list
from lsbuild.suggest import did_you_mean

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "tuple_type": "a list",
    "list_type": "a list",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}


def problems(error: ValidationError, root: type[BaseModel], tree: Node, base: Path = ()) -> list[Problem]:
    """One Problem for each fault of ``tree``, which was validated as ``root``; paths start with ``base``."""
    found: dict[tuple[Path, str], Problem] = {}
    unions: dict[Path, list[str]] = {}
    for fault in error.errors(include_url=False):
        path, node = _place(fault["loc"], tree)
        if len(path) < len(fault["loc"]) and fault["type"] in _EXPECTED and path in unions:
            continue
        if _in_union(fault["loc"], path, root):
            unions.setdefault(path, [])
            found[path, "union"] = Problem(
                (*base, *path),
                f"expected a text, a number, true or false, found {found_words(node)}",
                node.origin.where,
            )
            continue
        problem = _problem(dict(fault), path, node, root, tree, base)
        found[path, problem.message] = problem
    return list(found.values())


def _place(loc: tuple[int | str, ...], tree: Node) -> tuple[Path, Node]:
    """The longest part of ``loc`` that exists in the tree, and the node there."""
    path: Path = ()
    node = tree
    for part in loc:
        below = node.get((part,))
        if below is None:
            break
        path, node = (*path, part), below
    return path, node


def _in_union(loc: tuple[int | str, ...], path: Path, root: type[BaseModel]) -> bool:
    return len(loc) > len(path) and get_origin(_type_at(root, path)) in {typing.Union, UnionType}


def _problem(fault: dict[str, Any], path: Path, node: Node, root: type[BaseModel], tree: Node, base: Path) -> Problem:
    kind, loc = fault["type"], fault["loc"]
    if kind == "extra_forbidden":
        above = tree.get(loc[:-1]) or tree
        key = str(loc[-1])
        message = f"unknown key '{key}'.{did_you_mean(key, _fields(_type_at(root, loc[:-1])))}"
        return Problem((*base, *loc), message, above.keys[key].where if key in above.keys else node.origin.where)
    if kind == "missing":
        key = str(loc[-1])
        above = tree.get(loc[:-1]) or tree
        spot = _key_origin(tree, loc[:-1]) or above.origin.where
        return Problem((*base, *loc), f"missing key '{key}'{_meaning(_type_at(root, loc[:-1]), key)}", spot)
    if loc and loc[-1] == "[key]":
        name = str(loc[-2])
        shown = name.replace("\n", "\\n")
        above = tree.get(loc[:-2]) or tree
        where = above.keys[name].where if name in above.keys else above.origin.where
        return Problem((*base, *loc[:-1]), f"'{shown}' is not a name: {NAME_RULE}", where)
    return Problem((*base, *path), describe(fault, node), node.origin.where)


NAME_RULE = "a lower-case letter, then letters, digits and _ . - (at most 63)"


def describe(fault: Mapping[str, Any], node: Node) -> str:
    """The message for a value of the wrong type or out of bounds."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {found_words(node)}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{node.plain()} is out of range: {words} {context[name]}"
    if kind == "literal_error":
        allowed = [str(each) for each in _quoted(context["expected"])]
        hint = did_you_mean(str(node.plain()), allowed) if isinstance(node.value, str) and len(allowed) > 1 else ""
        near = hint if "Did you mean" in hint else ""
        return f"{found_words(node)} is not one of {', '.join(allowed)}.{near}"
    if kind == "string_pattern_mismatch":
        return f"{found_words(node)} is not a name: {NAME_RULE}"
    if kind == "too_short":
        return "expected at least one entry, the list is empty"
    if kind == "value_error":
        message = str(context.get("error", fault["msg"]))
        return f"{message}, found {found_words(node)}" if message.startswith("expected") else message
    return str(fault["msg"])


def found_words(node: Node) -> str:
    """The value as a person would name it: ``the number 5``, ``'x'``, ``a list``."""
    value = node.value
    if isinstance(value, Mapping):
        return "a map"
    if is_list(node):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).replace("\n", "\\n")
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"'{text}'" if isinstance(value, str) else f"the number {text}"


def _key_origin(tree: Node, path: Path) -> str:
    if not path:
        return ""
    above = tree.get(path[:-1])
    origin = above.keys.get(str(path[-1])) if above is not None else None
    return origin.where if origin else ""


def _quoted(expected: str) -> Iterable[str]:
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(", ")]


def _type_at(root: Any, path: Path) -> Any:
    """The annotation that the model gives for ``path``."""
    at = root
    for part in path:
        at = _bare(at)
        if isinstance(at, type) and issubclass(at, BaseModel):
            field = at.model_fields.get(str(part))
            at = field.annotation if field is not None else None
        elif get_origin(at) is dict:
            at = get_args(at)[1]
        elif get_origin(at) is tuple:
            at = get_args(at)[0]
        else:
            return None
    return _bare(at)


def _bare(annotation: Any) -> Any:
    """Without Annotated and without ``| None``."""
    if get_origin(annotation) is typing.Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in {typing.Union, UnionType}:
        rest = [each for each in get_args(annotation) if each is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _fields(annotation: Any) -> Collection[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields.keys()
    return ()


def _meaning(annotation: Any, key: str) -> str:
    """`` (what it is)`` from the field's docstring, its first sentence."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and key in annotation.model_fields:
        text = annotation.model_fields[key].description or ""
        first = " ".join(text.split()).partition(". ")[0].rstrip(".")
        return f": {first[0].lower()}{first[1:]}" if first else ""
    return ""
