"""Annotations of a Python file as JSON Schema, from its syntax tree; the file is never imported."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from lsbuild.api import Json, SourceError

_PLAIN: Mapping[str, Mapping[str, Json]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "Any": {},
    "object": {},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
}
_LISTS = (
    "list",
    "List",
    "Sequence",
    "Iterable",
    "Collection",
    "tuple",
    "Tuple",
    "set",
    "Set",
    "frozenset",
    "FrozenSet",
)
_SETS = ("set", "Set", "frozenset", "FrozenSet")
_MAPS = ("dict", "Dict", "Mapping", "MutableMapping")
_ENUMS = ("Enum", "StrEnum", "IntEnum")
KNOWN = (
    "str, int, float, bool, None, date, datetime, list, dict, Literal, Optional, Union, Enum, TypedDict and dataclasses"
)


@dataclass(slots=True)
class Types:
    """The names of one file that annotations may use; ``where`` is the file as errors name it."""

    where: str
    classes: Mapping[str, ast.ClassDef]
    aliases: Mapping[str, ast.expr]
    _open: list[str] = field(default_factory=list)

    def fault(self, node: ast.AST, what: str, hint: str) -> SourceError:
        """The error for a place of the file."""
        return SourceError(what, where=f"{self.where}:{getattr(node, 'lineno', 1)}", hint=hint)

    def schema(self, node: ast.expr) -> dict[str, Json]:
        """The schema of an annotation. SourceError with file and line for a type that has none."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.schema(self._parsed(node, node.value))
        if isinstance(node, ast.Constant) and node.value is None:
            return {"type": "null"}
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return _either([self.schema(node.left), self.schema(node.right)])
        if isinstance(node, ast.Subscript):
            return self._generic(node, _name(node.value))
        name = _name(node)
        if name in self.classes or name in self.aliases:
            return self._own(node, name)
        if name in _LISTS:
            return {"type": "array"}
        if name in _MAPS:
            return {"type": "object"}
        if name in _PLAIN:
            return dict(_PLAIN[name])
        raise self.fault(node, f"the type {ast.unparse(node)!r} has no JSON Schema", f"Use {KNOWN}.")

    def value(self, node: ast.expr) -> tuple[bool, Json]:
        """Whether a default can be shown, and its JSON."""
        if isinstance(node, ast.Attribute) and (owner := self.classes.get(_name(node.value))) is not None:
            found = self._members(owner)
            return node.attr in found, found.get(node.attr)
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return False, None
        return _is_json(value), value

    def _parsed(self, node: ast.expr, text: str) -> ast.expr:
        try:
            return ast.copy_location(ast.parse(text, mode="eval").body, node)
        except SyntaxError as error:
            raise self.fault(node, f"the annotation {text!r} is no type", f"Use {KNOWN}.") from error

    def _generic(self, node: ast.Subscript, name: str) -> dict[str, Json]:
        inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        match name:
            case "Literal":
                return _choices([self._literal(each) for each in inner])
            case "Optional":
                return _either([self.schema(inner[0]), {"type": "null"}])
            case "Union":
                return _either([self.schema(each) for each in inner])
            case "Annotated":
                told = [
                    each.value for each in inner[1:] if isinstance(each, ast.Constant) and isinstance(each.value, str)
                ]
                return {**self.schema(inner[0]), **({"description": told[0]} if told else {})}
            case "Required" | "NotRequired" | "ReadOnly":
                return self.schema(inner[0])
            case "tuple" | "Tuple" if not (len(inner) == 2 and _is_ellipsis(inner[1])):
                items = [self.schema(each) for each in inner]
                return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        if name in _LISTS:
            return {"type": "array", "items": self.schema(inner[0]), **({"uniqueItems": True} if name in _SETS else {})}
        if name in _MAPS and len(inner) == 2:
            if self.schema(inner[0]).get("type") != "string":
                raise self.fault(node, f"the keys of {ast.unparse(node)!r} are not str", "JSON objects have text keys.")
            return {"type": "object", "additionalProperties": self.schema(inner[1])}
        raise self.fault(node, f"the type {ast.unparse(node)!r} has no JSON Schema", f"Use {KNOWN}.")

    def _literal(self, node: ast.expr) -> Json:
        known, value = self.value(node)
        if not known or isinstance(value, list | dict):
            raise self.fault(
                node, f"{ast.unparse(node)!r} cannot stand in a Literal", "Use texts, numbers or booleans."
            )
        return value

    def _own(self, node: ast.expr, name: str) -> dict[str, Json]:
        """A class or an alias of the file itself."""
        if name in self._open:
            raise self.fault(node, f"the type {name!r} holds itself", "Use a type that ends, such as dict.")
        self._open.append(name)
        try:
            return self._class(self.classes[name]) if name in self.classes else self.schema(self.aliases[name])
        finally:
            self._open.pop()

    def _class(self, node: ast.ClassDef) -> dict[str, Json]:
        bases = [_name(base) for base in node.bases]
        if any(base in _ENUMS for base in bases):
            return _choices(list(self._members(node).values()))
        if "TypedDict" in self._ancestry(node):
            return self._typed_dict(node)
        if any(_name(each.func if isinstance(each, ast.Call) else each) == "dataclass" for each in node.decorator_list):
            return self._record(node)
        raise self.fault(
            node, f"the class {node.name!r} has no JSON Schema", "Make it a dataclass, a TypedDict or an Enum."
        )

    def _ancestry(self, node: ast.ClassDef) -> list[str]:
        found = []
        for base in node.bases:
            name = _name(base)
            found += [name, *(self._ancestry(self.classes[name]) if name in self.classes else ())]
        return found

    def _members(self, node: ast.ClassDef) -> dict[str, Json]:
        """The values of an Enum by name."""
        found: dict[str, Json] = {}
        for each in node.body:
            if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
                name = each.targets[0].id
                if isinstance(each.value, ast.Call) and _name(each.value.func) == "auto":
                    text = "StrEnum" in [_name(base) for base in node.bases]
                    found[name] = name.lower() if text else len(found) + 1
                    continue
                try:
                    found[name] = ast.literal_eval(each.value)
                except ValueError as error:
                    what = f"the value of {node.name}.{name} is not a literal"
                    raise self.fault(each, what, "Write texts or numbers.") from error
        return found

    def _typed_dict(self, node: ast.ClassDef) -> dict[str, Json]:
        total = not any(
            each.arg == "total" and isinstance(each.value, ast.Constant) and each.value.value is False
            for each in node.keywords
        )
        needed = [
            name
            for name, kind, _ in self._fields(node)
            if (_outer(kind) != "NotRequired" if total else _outer(kind) == "Required")
        ]
        return self._object(node, needed)

    def _record(self, node: ast.ClassDef) -> dict[str, Json]:
        return self._object(node, [name for name, _, default in self._fields(node) if default is None])

    def _object(self, node: ast.ClassDef, needed: list[str]) -> dict[str, Json]:
        properties = {}
        for name, kind, default in self._fields(node):
            properties[name] = self.schema(kind)
            known, value = self.value(default) if default is not None else (False, None)
            if known:
                properties[name]["default"] = value
        found: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**found, "required": needed} if needed else found

    def _fields(self, node: ast.ClassDef) -> list[tuple[str, ast.expr, ast.expr | None]]:
        """Name, annotation and default of each field, those of bases in the same file first."""
        found: dict[str, tuple[str, ast.expr, ast.expr | None]] = {}
        for base in node.bases:
            if (above := self.classes.get(_name(base))) is not None:
                found |= {entry[0]: entry for entry in self._fields(above)}
        for each in node.body:
            if (
                isinstance(each, ast.AnnAssign)
                and isinstance(each.target, ast.Name)
                and _outer(each.annotation) != "ClassVar"
            ):
                found[each.target.id] = (each.target.id, each.annotation, each.value)
        return list(found.values())


def _name(node: ast.expr) -> str:
    """The last word of a dotted name: ``typing.Optional`` -> ``Optional``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _outer(node: ast.expr) -> str:
    return _name(node.value) if isinstance(node, ast.Subscript) else _name(node)


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis


def _is_json(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(each) for key, each in value.items())
    return value is None or isinstance(value, str | int | float | bool)


def _choices(values: list[Json]) -> dict[str, Json]:
    """An enum, with its type where all values share one."""
    kinds = {type(value) for value in values}
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    kind = names.get(next(iter(kinds))) if len(kinds) == 1 else None
    return {**({"type": kind} if kind else {}), "enum": values}


def _either(schemas: list[dict[str, Json]]) -> dict[str, Json]:
    """Types joined where each is only a type, else anyOf; unions inside unions are one."""
    flat = [part for each in schemas for part in (each["anyOf"] if set(each) == {"anyOf"} else [each])]
    if all(set(each) == {"type"} for each in flat):
        kinds = list(dict.fromkeys(kind for each in flat for kind in _kinds(each["type"])))
        return {"type": kinds[0] if len(kinds) == 1 else kinds}
    return {"anyOf": flat}


def _kinds(kind: Json) -> list[str]:
    return kind if isinstance(kind, list) else [kind]
