"""What a plain schema would cost or never end: intersections of many patterns, values without an end; pure, no engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lsbuild_plugins.onnx.serve.schema import DEPTH, Schema, children, refusal

TOGETHER = 6
"""Patterns and formats one value may be held to at once: the time to intersect them grows as 2 to their number."""


def check(schema: Schema | bool, where: str) -> None:
    """ApiError 400 for a schema whose automata would be too large or whose smallest answer is infinite."""
    defs = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    weight = _Weight(defs)
    for place, each in _all(schema, ""):
        if weight.of((each,)) > TOGETHER:
            raise refusal(where, place, f"one value is held to more than {TOGETHER} patterns and formats at once")
    ends = _ending(defs)
    if not _ends(schema, ends):
        raise refusal(
            where, "", "no finite value fits: the schema requires itself inside itself; make that part optional"
        )


def _all(schema: Schema | bool, place: str) -> Iterator[tuple[str, Schema]]:
    if isinstance(schema, dict):
        yield place, schema
        for more, child in children(schema):
            yield from _all(child, place + more)


class _Weight:
    """How many patterns and formats hold one value, also where several schemas meet in one property or item."""

    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs
        self._known: dict[frozenset[int], int] = {}

    def of(self, schemas: Sequence[Any], depth: int = 0) -> int:
        flat: dict[int, Schema] = {}
        for schema in schemas:
            self._flatten(schema, flat)
        key = frozenset(flat)
        if key not in self._known:
            self._known[key] = 0  # a schema that meets itself again adds nothing
            own = sum(("pattern" in each) + ("format" in each) for each in flat.values())
            inner = [self.of(group, depth + 1) for group in _meeting(list(flat.values()))] if depth < DEPTH else []
            self._known[key] = max([own, *inner])
        return self._known[key]

    def _flatten(self, schema: Any, flat: dict[int, Schema]) -> None:
        if not isinstance(schema, dict) or id(schema) in flat:
            return
        flat[id(schema)] = schema
        if "$ref" in schema:
            self._flatten(self._defs[schema["$ref"].rpartition("/")[2]], flat)
        for each in schema.get("allOf", ()):
            self._flatten(each, flat)
        for key in ("anyOf", "oneOf"):
            # Only one branch counts: the heaviest by itself.
            branches = schema.get(key, ())
            if branches:
                self._flatten(max(branches, key=lambda branch: _own(branch)), flat)


def _own(schema: Any) -> int:
    return ("pattern" in schema) + ("format" in schema) if isinstance(schema, dict) else 0


def _meeting(schemas: Sequence[Schema]) -> Iterator[tuple[Any, ...]]:
    """The groups of schemas that hold one property or item together; single ones are checked where they stand."""
    if len(schemas) < 2:
        return
    names = dict.fromkeys(name for each in schemas for name in each.get("properties", {}))
    for name in names:
        group = [found for each in schemas if (found := _property(each, name)) is not None]
        if len(group) > 1:
            yield tuple(group)
    others = [each[key] for each in schemas for key in ("additionalProperties", "items") if key in each]
    others += [value for each in schemas for value in each.get("patternProperties", {}).values()]
    others += [value for each in schemas for value in each.get("prefixItems", ())]
    if len(others) > 1:
        yield tuple(others)


def _property(schema: Schema, name: str) -> Any:
    return schema.get("properties", {}).get(name, schema.get("additionalProperties"))


def _ending(defs: Mapping[str, Any]) -> frozenset[str]:
    """Names of the definitions that a finite value can fit: the least set that contains what follows from it."""
    found: frozenset[str] = frozenset()
    while True:
        more = frozenset(name for name, schema in defs.items() if name in found or _ends(schema, found))
        if more == found:
            return found
        found = more


def _ends(schema: Any, ends: frozenset[str]) -> bool:
    if not isinstance(schema, dict):
        return schema is not False
    if "$ref" in schema and schema["$ref"].rpartition("/")[2] not in ends:
        return False
    if not all(_ends(each, ends) for each in schema.get("allOf", ())):
        return False
    if any(key in schema and not any(_ends(each, ends) for each in schema[key]) for key in ("anyOf", "oneOf")):
        return False
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not {"object", "array"} >= set(types):
        return True
    return (
        not types
        or ("object" in types and _object_ends(schema, ends))
        or ("array" in types and _array_ends(schema, ends))
    )


def _object_ends(schema: Schema, ends: frozenset[str]) -> bool:
    known = schema.get("properties", {})
    other = schema.get("additionalProperties", True)
    return all(_ends(known.get(name, other), ends) for name in schema.get("required", ()))


def _array_ends(schema: Schema, ends: frozenset[str]) -> bool:
    first, least = schema.get("prefixItems", ()), schema.get("minItems", 0)
    needed = [*first[:least], *([schema.get("items", True)] if least > len(first) else [])]
    return all(_ends(each, ends) for each in needed)
