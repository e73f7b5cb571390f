"""Arguments that a model wrote: what passes, what the sentences about the rest say, and that no schema makes a check long."""

from __future__ import annotations

import builtins
import json
from typing import Any

import pytest

from lsbuild_runtime.tools import arguments
from lsbuild_runtime.tools.arguments import DEEPEST, LONGEST, matcher, schema_fault, validated

SCHEMA = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 2},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["bar", "psi"]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 3},
        "site": {"anyOf": [{"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"}, {"type": "null"}]},
        "box": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
    },
    "required": ["query"],
    "additionalProperties": False,
}


def wrong(text: str, schema: dict[str, Any] = SCHEMA) -> str:
    found = validated(text, schema)
    assert isinstance(found, str)
    return found


def test_what_fits_is_given_back_as_it_is() -> None:
    text = '{"query": "seal", "count": 3, "unit": "bar", "tags": ["a", "b"], "site": null, "box": {"x": 1.5}}'
    assert validated(text, SCHEMA) == json.loads(text)
    assert validated("", {"type": "object"}) == validated(" {} ", {"type": "object"}) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[1]", "an array"),
        ("null", "null"),
        ('"x"', "a string"),
        ('{"query": "ab", "query": "cd"}', "'query' is there twice"),
        ('{"query": "ab", "box": {"x": 1, "x": 2}}', "'x' is there twice"),
        ('{"query": NaN}', "NaN is not JSON"),
        ('{"query": -Infinity}', "Infinity is not JSON"),
        ('{"query": 1e999}', "too large"),
        ('{"count": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"query": "\\ud800"}', "surrogate"),
        ("{}", "the object lacks 'query'"),
        ('{"query": 7}', "'query' must be string, it is an integer 7"),
        ('{"query": "x"}', "'query' must have at least 2 characters, it has 1"),
        ('{"query": "xy", "count": 12}', "'count' must be at most 9; it is 12"),
        ('{"query": "xy", "count": 1.5}', "'count' must be integer, it is a number 1.5"),
        ('{"query": "xy", "unit": "atm"}', '\'unit\' must be one of "bar", "psi"; it is "atm"'),
        ('{"query": "xy", "tags": ["a", 2]}', "'tags[1]' must be string"),
        ('{"query": "xy", "tags": ["a", "a"]}', "twice"),
        ('{"query": "xy", "tags": ["a", "b", "c", "d"]}', "'tags' must have at most 3 items, it has 4"),
        ('{"query": "xy", "box": {}}', "'box' lacks 'x'"),
        ('{"query": "xy", "colour": 1}', "has no 'colour'; it has query, count"),
        ('{"query": "xy", "site": "A-b"}', "does not match the pattern"),
        ('{"query": "xy", "site": 5}', "fits none of its forms: must be string, it is an integer 5, or must be null"),
    ],
)
def test_each_fault_is_a_sentence_with_its_place(text: str, says: str) -> None:
    assert says in wrong(text)


def test_too_long_and_too_deep_are_told() -> None:
    assert str(LONGEST) in wrong('{"query": "' + "x" * LONGEST + '"}')
    deep = "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1)
    assert "nested" in wrong('{"query": ' + deep + "}", {"type": "object"})
    assert "nested" in wrong('{"query": ' + "[" * 50_000, {"type": "object"})
    at_most = "[" * (DEEPEST - 2) + "]" * (DEEPEST - 2)
    assert isinstance(validated('{"query": ' + at_most + "}", {"type": "object"}), dict)


def test_no_more_than_a_few_faults_and_no_long_quotes_are_told() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    said = wrong(json.dumps({f"a{number}": "x" * 1000 for number in range(100)}), schema)
    assert said.count("must be integer") == 4 and len(said) < 800


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "https://elsewhere.example/schema.json"},
        {"type": "nothing"},
        {"properties": {"a": {"multipleOf": 0}}},
        {"anyOf": 3},
    ],
)
def test_a_broken_schema_is_the_tools_fault_and_told(schema: dict[str, Any]) -> None:
    said = wrong('{"a": 1}', schema)
    assert "schema is broken" in said or "nested too deeply" in said


def test_a_schema_cannot_make_the_check_long() -> None:
    doubling: dict[str, Any] = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    schema = {"$defs": {**doubling, "d40": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}
    assert "too large to be checked" in wrong('{"a": 1}', schema)
    unique = {"type": "object", "properties": {"a": {"uniqueItems": True}}}
    many = json.dumps({"a": [{"n": number} for number in range(8000)]})
    assert isinstance(validated(many, unique), dict)


def test_a_pattern_runs_in_linear_time_with_re2() -> None:
    fits = matcher("^(a+)+$")
    assert fits is not None and fits("a" * 50) and not fits("a" * 5000 + "b")
    assert matcher("(?=a)b") is None
    schema = {
        "type": "object",
        "properties": {"a": {"pattern": "(?=a)b"}},
        "patternProperties": {"^n": {"type": "number"}},
    }
    assert "cannot be checked here" in wrong('{"a": "x"}', schema)
    assert "'nn' must be number" in wrong('{"nn": "x"}', schema)


def test_without_re2_only_patterns_that_cannot_take_long_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "re2":
            raise ImportError(name)
        return found(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    arguments.matcher.cache_clear()
    try:
        for pattern in ("^(a+)+$", "a*a*a*b", "(a|a)*", r"(a)\1", "(?=a)b", "a{1,}b{2,}", "(", "a|b"):
            assert matcher(pattern) is None, pattern
        fits = matcher("^[A-Z]{3}-[0-9]+$")
        assert fits is not None and fits("ABC-12") and not fits("abc")
    finally:
        arguments.matcher.cache_clear()


def test_a_schema_of_parameters_is_an_object() -> None:
    assert schema_fault(SCHEMA) == ""
    assert "type" in schema_fault({"properties": {}})
    assert "minLength" in schema_fault({"type": "object", "properties": {"a": {"minLength": "x"}}})
