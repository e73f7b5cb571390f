"""References and conditions: what they find, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from lsbuild_runtime.workflows.values import Missing, fill, holds, look_up

SCOPE = {
    "input": {"report": "It leaks", "count": 3, "none": None, "list": ["a", {"b": "c"}], "yes": True},
    "steps": {"sort": {"text": " Bug\n", "json": {"kind": "bug"}, "failed": False}},
}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("input.report", "It leaks"),
        ("input.list.1.b", "c"),
        ("steps.sort.json.kind", "bug"),
        ("steps.sort.failed", False),
    ],
)
def test_a_reference_leads_to_a_value(reference: str, value: Any) -> None:
    assert look_up(reference, SCOPE) == value


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("input.nothing", "there is no 'input.nothing'"),
        ("input.none", "there is no 'input.none'"),
        ("input.report.upper", "there is no 'input.report.upper'"),
        ("input.list.7", "there is no 'input.list.7'"),
        ("input.list.-1", "there is no 'input.list.-1'"),
        ("input.list.__class__", "there is no 'input.list.__class__'"),
        ("steps.find.text", "there is no 'steps.find'"),
    ],
)
def test_a_reference_that_leads_nowhere_says_where_it_ends(reference: str, fault: str) -> None:
    with pytest.raises(Missing) as missing:
        look_up(reference, SCOPE)
    assert str(missing.value) == f"{{{{{reference}}}}}: {fault}"


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("{{input.count}}", 3),
        (" {{ input.list }} ", ["a", {"b": "c"}]),
        ("{{input.report}}: {{input.count}} {{input.list}}", 'It leaks: 3 ["a",{"b":"c"}]'),
        ({"a": ["{{input.yes}}", 5]}, {"a": [True, 5]}),
        ("no place, { {input.x} }", "no place, { {input.x} }"),
    ],
)
def test_a_form_is_filled(form: Any, value: Any) -> None:
    assert fill(form, SCOPE) == value


def test_what_was_filled_in_is_not_filled_again() -> None:
    scope = {"input": {"evil": "{{input.secret}}", "secret": "s"}}
    assert fill("<{{input.evil}}>", scope) == "<{{input.secret}}>"


@pytest.mark.parametrize(
    ("when", "held"),
    [
        ({}, True),
        ({"steps.sort.text": "bug"}, True),
        ({"steps.sort.text": "bug", "input.count": 4}, False),
        ({"steps.sort.text": {"ne": "bug"}}, False),
        ({"steps.sort.text": {"in": ["question", "BUG"]}}, True),
        ({"steps.sort.text": {"nin": ["question"]}}, True),
        ({"input.count": {"gt": 2, "lte": 3}}, True),
        ({"input.count": {"gt": "2"}}, False),
        ({"input.count": {"lt": 3}}, False),
        ({"input.yes": {"gte": 0}}, False),
        ({"input.yes": 1}, False),
        ({"input.yes": True}, True),
        ({"input.report": {"contains": "LEAK"}}, True),
        ({"input.list": {"contains": "a"}}, True),
        ({"input.list": {"contains": "b"}}, False),
        ({"input.report": {"matches": "^It (leaks|drips)$"}}, True),
        ({"input.count": {"matches": "3"}}, False),
        ({"input.nothing": {"exists": False}}, True),
        ({"input.none": {"exists": True}}, False),
        ({"input.report": {"exists": True}}, True),
        ({"input.nothing": {"ne": 1}}, True),
        ({"input.nothing": {"lt": 1}}, False),
        ({"input.nothing": "x"}, False),
    ],
)
def test_conditions(when: dict[str, Any], held: bool) -> None:
    assert holds(when, SCOPE) is held
