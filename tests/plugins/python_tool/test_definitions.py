"""What a Python file says of its tools, read from its syntax tree: schemas, docstrings, PEP 723 metadata, faults."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from lsbuild.api import SourceError
from lsbuild_plugins.python_tool.compile import docstring, functions, metadata

HEAD = """
import enum
import typing as t
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict, Union

Unit = Literal["bar", "psi"]

class Colour(enum.StrEnum):
    RED = enum.auto()
    BLUE = "blue"

class Level(int, enum.Enum):
    LOW = 1
    HIGH = 2

class Site(TypedDict):
    name: str
    floor: NotRequired[int]

@dataclass
class Box:
    x: float
    tags: list[str] = field(default_factory=list)

@dataclass
class Wide(Box):
    width: int = 3
"""


def read(body: str) -> list[functions.Definition]:
    return functions.read(HEAD + body, "tools/pump.py")


def schema(parameter: str) -> dict[str, Any]:
    """The schema of one parameter ``p``."""
    (found,) = read(f'def f({parameter}):\n    """Doc."""\n')
    jsonschema.Draft202012Validator.check_schema(found.parameters)
    value: dict[str, Any] = found.parameters["properties"]["p"]
    return value


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("str", {"type": "string"}),
        ("int", {"type": "integer"}),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("None", {"type": "null"}),
        ("Any", {}),
        ("date", {"type": "string", "format": "date"}),
        ("list", {"type": "array"}),
        ("dict", {"type": "object"}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("t.Sequence[str]", {"type": "array", "items": {"type": "string"}}),
        ("set[str]", {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        ("tuple[int, ...]", {"type": "array", "items": {"type": "integer"}}),
        (
            "tuple[int, str]",
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        ),
        ("dict[str, float]", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("Literal['a', 'b']", {"type": "string", "enum": ["a", "b"]}),
        ("Literal[1, 'b', None]", {"enum": [1, "b", None]}),
        ("Unit", {"type": "string", "enum": ["bar", "psi"]}),
        ("Optional[str]", {"type": ["string", "null"]}),
        ("t.Optional[Unit]", {"anyOf": [{"type": "string", "enum": ["bar", "psi"]}, {"type": "null"}]}),
        ("Union[int, str, None]", {"type": ["integer", "string", "null"]}),
        (
            "int | list[str] | None",
            {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        ),
        ("'int'", {"type": "integer"}),
        ("Annotated[int, 'how many']", {"type": "integer", "description": "how many"}),
        ("Colour", {"type": "string", "enum": ["red", "blue"]}),
        ("Level", {"type": "integer", "enum": [1, 2]}),
        (
            "Site",
            {
                "type": "object",
                "properties": {"name": {"type": "string"}, "floor": {"type": "integer"}},
                "additionalProperties": False,
                "required": ["name"],
            },
        ),
        (
            "Wide",
            {
                "type": "object",
                "properties": {
                    "x": {"type": "number"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "width": {"type": "integer", "default": 3},
                },
                "additionalProperties": False,
                "required": ["x"],
            },
        ),
    ],
)  # fmt: skip
def test_annotations_become_schemas(annotation: str, expected: dict[str, Any]) -> None:
    assert schema(f"p: {annotation}") == expected


def test_defaults_make_a_parameter_optional_and_are_shown() -> None:
    source = 'def f(a: int, b: str = "x", *, c: Colour = Colour.RED, d: float, e: list = build()):\n    """Doc."""\n'
    (found,) = read(source)
    assert found.parameters["required"] == ["a", "d"]
    shown = {name: value.get("default") for name, value in found.parameters["properties"].items()}
    assert shown == {"a": None, "b": "x", "c": "red", "d": None, "e": None}
    assert "default" not in found.parameters["properties"]["e"] and found.parameters["additionalProperties"] is False


def test_public_functions_or_those_of_all_are_the_tools() -> None:
    both = 'def a():\n    """A."""\n\nasync def b():\n    """B."""\n\ndef _c():\n    pass\n'
    assert [each.name for each in read(both)] == ["a", "b"]
    assert [each.name for each in read('__all__ = ["b", "Site"]\n' + both)] == ["b"]


def test_docstrings_of_google_and_sphinx() -> None:
    google = """Reads a pump.

    More of it.

    Args:
        name: Which pump,
            by its sign.
        unit (Unit): Of the answer: bar.

    Returns:
        x: y
    """
    assert docstring.read(google) == (
        "Reads a pump.\n\nMore of it.",
        {"name": "Which pump, by its sign.", "unit": "Of the answer: bar."},
    )
    sphinx = "Reads a pump.\n\n:param name: Which pump,\n    by its sign.\n:param Unit unit: Of it.\n:returns: the pressure\n"
    assert docstring.read(sphinx) == ("Reads a pump.", {"name": "Which pump, by its sign.", "unit": "Of it."})


@pytest.mark.parametrize(
    ("body", "line", "says"),
    [
        ('def f(p):\n    """D."""\n', 30, "the parameter 'p' has no type"),
        ('def f(p: int):\n    return p\n', 30, "has no docstring"),
        ('def f(*p: int):\n    """D."""\n', 30, "*p has no schema"),
        ('def f(**p: int):\n    """D."""\n', 30, "**p has no schema"),
        ('def f(p: int, /):\n    """D."""\n', 30, "by place"),
        ('def f(p: complex):\n    """D."""\n', 30, "'complex' has no JSON Schema"),
        ('def f(p: dict[int, str]):\n    """D."""\n', 30, "are not str"),
        ('def f(p: "list[["):\n    """D."""\n', 30, "is no type"),
        ('def f(p: numpy.ndarray):\n    """D."""\n', 30, "'numpy.ndarray' has no JSON Schema"),
        ('class Own:\n    pass\ndef f(p: Own):\n    """D."""\n', 30, "the class 'Own' has no JSON Schema"),
        ('@dataclass\nclass Tree:\n    left: "Tree"\ndef f(p: Tree):\n    """D."""\n', 32, "'Tree' holds itself"),
        ("def _f():\n    pass\n", 1, "there is no public function"),
        ('__all__ = ["g"]\ndef f():\n    """D."""\n', 30, "__all__ names 'g'"),
        ('__all__ = names()\ndef f():\n    """D."""\n', 30, "__all__ is not a list"),
        ("def f(:\n", 30, "not a Python file"),
    ],
)  # fmt: skip
def test_what_has_no_schema_is_an_error_with_its_line(body: str, line: int, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(body)
    assert says in caught.value.what and caught.value.hint
    assert caught.value.where == f"tools/pump.py:{line}"


def test_reading_never_runs_the_file() -> None:
    assert read('raise SystemExit\ndef f():\n    """D."""\n')[0].name == "f"


SCRIPT = """#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "humanize>=4",
# ]
#
# [tool.other]
# x = 1
# ///
"""


def test_metadata_of_pep_723() -> None:
    assert metadata.read(SCRIPT, "f.py") == metadata.Metadata(("humanize>=4",), ">=3.11")
    assert metadata.read("x = 1\n", "f.py") == metadata.Metadata()


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("# /// script\n# a = [\n# ///\n", "f.py:1", "not valid TOML"),
        ("\n# /// script\n# a = 1\nx = 1\n", "f.py:2", "not closed"),
        (SCRIPT + SCRIPT.partition("\n")[2], "f.py:11", "two '# /// script' blocks"),
        ("# /// script\n# dependencies = 'x'\n# ///\n", "f.py:1", "not a list"),
        ("# /// script\n# requires-python = 3\n# ///\n", "f.py:1", "not a text"),
        ("# /// script\n# dependencies = ['a @ https://x/a.whl']\n# ///\n", "f.py:1", "is a place, not a name"),
        ("# /// script\n# dependencies = ['./a']\n# ///\n", "f.py:1", "is a place, not a name"),
    ],
)
def test_broken_metadata_are_errors_with_their_line(text: str, where: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        metadata.read(text, "f.py")
    assert says in caught.value.what and caught.value.where == where
