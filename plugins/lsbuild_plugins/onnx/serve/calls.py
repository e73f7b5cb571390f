"""Text of one call to its name and arguments, for each shape of a ToolForm; what is no call gives None. It finds no markers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lsbuild_plugins.onnx.serve.forms import ToolForm

Call = tuple[str, str]
"""A name, and the arguments as JSON text."""

Types = Mapping[str, Mapping[str, Any]]
"""Function name -> the properties of its parameters (JSON schemas)."""

_NAME = re.compile(r"[\w.\-]{1,64}")


def types_of(tools: Sequence[Mapping[str, Any]]) -> Types:
    """The declared properties of every function."""
    functions = [tool.get("function", {}) for tool in tools]
    return {each.get("name", ""): (each.get("parameters") or {}).get("properties") or {} for each in functions}


def of_object(text: str, form: ToolForm) -> Call | None:
    """A JSON object with a name and arguments; arguments may be missing, or be JSON text."""
    call = _loads(text)
    if not isinstance(call, dict):
        return None
    name = call.get(form.name_key, call.get("name"))
    given: Any = next((call[key] for key in (form.arguments_key, "arguments", "parameters") if key in call), {})
    return _call(name, _loads(given) if isinstance(given, str) else given)


def of_named(name: str, text: str) -> Call | None:
    """A name and a JSON object."""
    return _call(name, _loads(text))


def of_strings(name: str, pairs: Mapping[str, str], types: Types) -> Call | None:
    """A name and arguments as bare text: one that is declared as a string stays, others are JSON where they can be."""
    declared = types.get(name, {})
    return _call(name, {key: _typed(text, declared.get(key)) for key, text in pairs.items()})


def of_quoted(name: str, body: str, form: ToolForm) -> Call | None:
    """A name and the inside of an object whose strings stand between ``form.quote`` and whose keys are bare."""
    reader = _Quoted(body, form.quote)
    try:
        return _call(name, reader.members())
    except ValueError:
        return None


def of_python(name: str, text: str) -> Call | None:
    """A name and ``(key=value, ...)`` with Python's literals, or JSON's."""
    import ast

    try:
        call = ast.parse(f"f{text}", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    if not isinstance(call, ast.Call) or call.args:
        return None
    arguments: dict[str, Any] = {}
    for keyword in call.keywords:
        try:
            if keyword.arg is None:
                return None
            arguments[keyword.arg] = ast.literal_eval(_Names().visit(keyword.value))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    return _call(name, arguments)


def _Names() -> Any:  # noqa: N802 - a class that is made where ast is loaded
    import ast

    words = {"true": True, "false": False, "null": None}

    class Names(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return ast.Constant(words[node.id]) if node.id in words else node

    return Names()


def _call(name: Any, arguments: Any) -> Call | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(arguments, dict):
        return None
    try:
        return name, json.dumps(arguments, ensure_ascii=False, separators=(", ", ": "))
    except (TypeError, ValueError):
        return None


def _loads(text: str) -> Any:
    """The JSON value, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _typed(text: str, schema: Any) -> Any:
    kinds = schema.get("type") if isinstance(schema, dict) else None
    if kinds == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text.strip(), text)


class _Quoted:
    """Reads ``key:value,key:value`` where strings stand between quotes of the model's own. ValueError on anything else."""

    def __init__(self, text: str, quote: str) -> None:
        self._text = text
        self._quote = quote
        self._at = 0

    def members(self, end: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        while not self._ends(end):
            if out:
                self._expect(",")
            key = self._string() if self._sees(self._quote) else self._bare(":")
            self._expect(":")
            out[key] = self._value()
        return out

    def _items(self) -> list[Any]:
        out: list[Any] = []
        while not self._ends("]"):
            if out:
                self._expect(",")
            out.append(self._value())
        return out

    def _value(self) -> Any:
        if self._sees(self._quote):
            return self._string()
        if self._takes("{"):
            return self.members("}")
        if self._takes("["):
            return self._items()
        return json.loads(self._bare(",]}"))

    def _string(self) -> str:
        start = self._at + len(self._quote)
        stop = self._text.index(self._quote, start)
        self._at = stop + len(self._quote)
        return self._text[start:stop]

    def _bare(self, stops: str) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in stops:
            self._at += 1
        if not self._text[start : self._at].strip():
            raise ValueError("nothing where a value was expected")
        return self._text[start : self._at].strip()

    def _sees(self, mark: str) -> bool:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._text.startswith(mark, self._at)

    def _takes(self, mark: str) -> bool:
        if self._sees(mark):
            self._at += len(mark)
            return True
        return False

    def _ends(self, end: str) -> bool:
        return self._takes(end) if end else (self._sees("") and self._at >= len(self._text))

    def _expect(self, mark: str) -> None:
        if not self._takes(mark):
            raise ValueError(f"{mark} was expected")
