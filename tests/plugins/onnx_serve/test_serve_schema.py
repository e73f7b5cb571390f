"""Schemas: what is taken, what is refused and where, and that no schema costs more than a bounded time."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsbuild_plugins.onnx.serve import bounds, schema
from lsbuild_runtime.http import ApiError

NESTED: dict[str, Any] = json.loads('{"items":' * 40 + "{}" + "}" * 40)
TEXT = {"type": "string"}


def refused(value: Any) -> str:
    with pytest.raises(ApiError) as error:
        bounds.check(schema.plain(value, "s"), "s")
    assert (error.value.status, error.value.param) == (400, "s")
    return error.value.message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "s: a schema is an object or a boolean, not a number"),
        ({"properties": {"x": {"not": {}}}}, "s.properties.x.not: 'not' cannot be enforced"),
        ({"items": {"anyOf": [{}, {"uniqueItems": True}]}}, "s.items.anyOf[1].uniqueItems: 'uniqueItems' cannot"),
        ({"$ref": "https://a.example/b"}, "s.$ref: 'https://a.example/b' is not inside this schema"),
        ({"$ref": "#/$defs/no"}, "s.$ref: '#/$defs/no' leads to nothing"),
        ({"$ref": "#/title", "title": "x"}, "s.$ref: '#/title' leads to no schema"),
        ({"$ref": 3}, "s.$ref: must be a string"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "text"}}}, "s.$defs.a.type: 'text' is not a type"),
        ({"type": []}, "s.type: names no type"),
        ({"enum": []}, "s.enum: must be a list with at least one entry"),
        ({"enum": list(range(2000))}, "s.enum: enums and constants have more than 1000 values"),
        ({"const": ["x" * 200_000]}, "s.const: names, values and patterns have more than 120000 characters"),
        ({"properties": 3}, "s.properties: must be an object, not a number"),
        ({"anyOf": {}}, "s.anyOf: must be a list"),
        ({"required": "a"}, "s.required: must be a list of names"),
        ({"pattern": 3}, "s.pattern: must be a string"),
        ({"pattern": "a" * 2000}, "s.pattern: the pattern has 2000 characters"),
        ({"format": "idn-email"}, "s.format: 'idn-email' cannot be enforced; formats are date,"),
        ({"minLength": -1}, "s.minLength: must be a whole number"),
        ({"maxItems": 10**9}, "s.maxItems: 1000000000 is too large; at most 10000"),
        ({"minimum": "1"}, "s.minimum: must be a number, not a string"),
        ({"minimum": float("inf")}, "s.minimum: must be finite"),
        ({"multipleOf": 0}, "s.multipleOf: must be greater than 0"),
        (NESTED, "nested more than 32 levels deep"),
        ({"properties": {f"a{n}": {"items": {}} for n in range(3000)}}, "there are more than 5000 schemas"),
        (
            {"anyOf": [{"$ref": f"#/$defs/a{n}"} for n in range(300)], "$defs": {f"a{n}": {} for n in range(300)}},
            "more than 200 definitions",
        ),
        ({"allOf": [{"pattern": f"a{n}"} for n in range(30)]}, "held to more than 6 patterns and formats at once"),
        (
            {"allOf": [{"properties": {"x": {"items": {"pattern": f"a{n}"}}}} for n in range(30)]},
            "held to more than 6 patterns and formats at once",
        ),
        (
            {
                "$ref": "#/$defs/a0",
                "$defs": {f"a{n}": {"pattern": "a", "$ref": f"#/$defs/a{n + 1}"} for n in range(40)} | {"a40": TEXT},
            },
            "held to more than 6 patterns and formats at once",
        ),
        ({"$ref": "#"}, "no finite value fits"),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}},
            },
            "no finite value fits",
        ),
    ],
)
def test_a_refusal_names_the_place_and_the_reason(value: Any, said: str) -> None:
    assert said in refused(value)


def test_a_plain_schema_says_the_same_in_fewer_words() -> None:
    given_schema = {
        "$schema": "x",
        "title": "T",
        "type": "object",
        "description": "d",
        "default": {},
        "x-guidance": {"lenient": True},
        "properties": {
            "title": {"type": "string", "examples": ["a"]},
            "next": {"$ref": "#"},
            "n": {"$ref": "#/definitions/a~1b"},
        },
        "definitions": {"a/b": {"const": {"title": "kept"}}, "unused": {"not": {}}},
        "required": ["title", "title"],
    }
    assert schema.plain(given_schema, "s") == {
        "type": "object",
        "properties": {"title": TEXT, "next": {"$ref": "#/$defs/d0"}, "n": {"$ref": "#/$defs/d1"}},
        "required": ["title"],
        "$defs": {
            "d0": {
                "type": "object",
                "properties": {"title": TEXT, "next": {"$ref": "#/$defs/d0"}, "n": {"$ref": "#/$defs/d1"}},
                "required": ["title"],
            },
            "d1": {"const": {"title": "kept"}},
        },
    }


def test_open_ranges_and_negated_classes_are_narrowed() -> None:
    assert schema.plain({"exclusiveMinimum": 0, "exclusiveMaximum": 2, "maximum": 1}, "s") == {
        "minimum": 1e-6,
        "maximum": 1,
    }
    assert schema.plain({"type": "integer", "exclusiveMinimum": 0}, "s") == {"type": "integer", "exclusiveMinimum": 0}
    assert schema.plain({"pattern": r"^\[^[^\"]$"}, "s") == {"pattern": r"^\[^[^\x00-\x08\x0b\x0c\x0e-\x1f\"]$"}


def test_lists_that_may_end_and_alternatives_are_finite() -> None:
    for part in (
        {"items": {"$ref": "#"}, "type": "array"},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        {"properties": {"a": {"$ref": "#"}}},
    ):
        bounds.check(schema.plain(part, "s"), "s")


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "type",
                    "properties",
                    "items",
                    "anyOf",
                    "allOf",
                    "$ref",
                    "$defs",
                    "enum",
                    "const",
                    "required",
                    "pattern",
                    "minimum",
                    "maxLength",
                    "a",
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_anything_is_taken_or_refused(value: Any) -> None:
    try:
        found = schema.plain(value, "s")
        bounds.check(found, "s")
    except ApiError as error:
        assert error.status == 400 and error.message.startswith("s")
        return
    assert isinstance(found, dict | bool)
    jsonschema.Draft202012Validator.check_schema(found)
