"""Writes the grammar of an answer in llguidance's Lark: JSON, tool calls in a model's own form, a thought before them.

It compiles nothing: a schema arrives in plain form (schema.py), a grammar leaves as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from lsbuild_plugins.onnx.serve.forms import Reasoning, ToolForm
from lsbuild_plugins.onnx.serve.schema import Schema

Pieces = Callable[[str], Iterable[str | int]]
"""Cuts a text at its special tokens."""

_LOOSE = {"whitespace_flexible": False, "item_separator": r",( |\n[ \t]{0,24})?", "key_separator": ": ?"}
"""How a JSON answer may be set: white space after commas and colons, and no more of it than that. What llguidance calls
flexible can go on for ever in some of its versions, and small models let it."""
_TEXT = "/(.|\\n)*/"


class Function(Struct, frozen=True):
    """A function that may be called; ``schema`` is the plain form of its parameters."""

    name: str
    schema: Schema


class Wanted(Struct, frozen=True, kw_only=True):
    """What an answer may be. Without ``answer`` and ``functions`` it is plain text."""

    answer: Schema | bool | None = None
    functions: Sequence[Function] = ()
    calls: Literal["may", "must"] = "may"
    parallel: bool = True
    thinking: Literal["no", "may", "begun"] = "no"
    """``begun``: the prompt holds the opening mark already."""


def write(wanted: Wanted, form: ToolForm | None, reasoning: Reasoning | None, pieces: Pieces) -> str:
    """The grammar; ``form`` is needed for functions, ``reasoning`` for a thought."""
    return _Writer(form or ToolForm(family=""), pieces).write(wanted, reasoning)


class _Writer:
    def __init__(self, form: ToolForm, pieces: Pieces) -> None:
        self._form = form
        self._pieces = pieces
        self._rules: list[str] = []

    def write(self, wanted: Wanted, reasoning: Reasoning | None) -> str:
        self.rule("TEXT", _TEXT)
        choices = []
        if wanted.functions:
            body = self._bodies(wanted.functions)
            several = wanted.parallel and self._form.parallel
            if wanted.calls == "may" and wanted.answer is None:
                choices.append(self._among_text(body, several=several))
            else:
                choices.append(self._section(body, several=several))
        if wanted.answer is not None:
            choices.append(_json(wanted.answer, **_LOOSE))
        self.rule("answer", " | ".join(choices))
        self.rule("start", " ".join((*self._thought(wanted, reasoning), "answer")))
        return "\n".join(reversed(self._rules)) + "\n"

    def rule(self, name: str, body: str) -> str:
        self._rules.append(f"{name}: {body or chr(34) * 2}")
        return name.partition("[")[0]

    def literal(self, text: str) -> str:
        """A fixed text; special tokens in it are tokens."""
        parts = (f"<[{piece}]>" if isinstance(piece, int) else _quoted(piece) for piece in self._pieces(text))
        return " ".join(parts)

    def until(self, name: str, mark: str) -> str:
        """A rule for any text that ends with the first ``mark``."""
        first, *rest = self._pieces(mark)
        if isinstance(first, int):
            return self.rule(name, f"TEXT {self.literal(mark)}")
        head = self.rule(f"{name}_head[lazy]", f"{_TEXT} {_quoted(first)}")
        tail = " ".join(f"<[{piece}]>" if isinstance(piece, int) else _quoted(piece) for piece in rest)
        return self.rule(name, f"{head} {tail}")

    def _thought(self, wanted: Wanted, reasoning: Reasoning | None) -> Sequence[str]:
        if reasoning is None or wanted.thinking == "no":
            return ()
        self.rule("BREAKS", r"/\n{0,3}/")
        thought = self.until("thought", reasoning.close)
        if wanted.thinking == "begun":
            return (thought, "BREAKS")
        return (f"({self.literal(reasoning.open)} {thought} BREAKS)?",)

    def _section(self, body: str, *, several: bool) -> str:
        """Calls and nothing else."""
        form = self._form
        first = self.literal((form.begin + form.open).lstrip())
        more = f"({self.literal(form.join + form.open)} {body} {self.literal(form.close)})*" if several else ""
        parts = (first, body, self.literal(form.close), more, self.literal(form.end))
        return self.rule("calls", " ".join(filter(None, parts)))

    def _among_text(self, body: str, *, several: bool) -> str:
        """Text with calls in it: after an opening mark nothing but a call may follow."""
        form = self._form
        if not form.opener:
            # Without a mark an answer is calls by its first character.
            first = (form.begin + form.open).strip()[:1] or "{"
            self.rule("OTHER", f"/([^{chr(92)}{first}](.|\\n)*)?/")
            return f"{self._section(body, several=several)} | OTHER"
        opening = (form.begin + form.open).lstrip()
        mark = self.until("mark", form.opener)
        first = self.literal(opening[len(form.opener) :])
        again = several and form.begin
        more = f"({self.literal(form.join + form.open)} {body} {self.literal(form.close)})*" if again else ""
        parts = (mark, first, body, self.literal(form.close), more, self.literal(form.end))
        self.rule("section", " ".join(filter(None, parts)))
        return "section* TEXT" if several else "section | TEXT"

    def _bodies(self, functions: Sequence[Function]) -> str:
        """CALL of any of the functions."""
        writers = {"object": self._object, "named": self._named, "pairs": self._pairs, "python": self._python}
        write = writers[self._form.shape]
        names = [self.rule(f"call{n}", write(f"call{n}", function)) for n, function in enumerate(functions)]
        return self.rule("call", " | ".join(names))

    def _object(self, _: str, function: Function) -> str:
        form = self._form
        head = (
            f'{{"{form.name_key}"{form.colon}{json.dumps(function.name)}{form.comma}"{form.arguments_key}"{form.colon}'
        )
        return f'{_quoted(head)} {self._arguments(function.schema)} "}}"'

    def _named(self, _: str, function: Function) -> str:
        return f"{self.literal(function.name + self._form.middle)} {self._arguments(function.schema)}"

    def _arguments(self, schema: Schema) -> str:
        form = self._form
        return _json(schema, whitespace_flexible=False, item_separator=form.comma, key_separator=form.colon)

    def _python(self, name: str, function: Function) -> str:
        members = self.members(name, function.schema, "", "=", lambda _, each: _compact(each, function.schema), ", ")
        return f"{_quoted(function.name + '(')} {members} {_quoted(')')}"

    def _pairs(self, name: str, function: Function) -> str:
        form = self._form
        head = self.literal(function.name + form.middle)
        quoted = _QuotedValues(self, form.quote, function.schema).value
        value = quoted if form.quote else self._bare_value(function.schema)
        members = self.members(name, function.schema, form.key_open, form.key_close, value, form.pair_join)
        return f"{head} {members}"

    def _bare_value(self, root: Schema) -> Callable[[str, Any], str]:
        """Strings stand as they are, up to the text that closes a value; everything else is JSON."""
        close = self._form.value_close

        def value(name: str, schema: Any) -> str:
            if not is_string(schema):
                return f"{_compact(schema, root)} {self.literal(close)}"
            if words := words_of(schema):
                return f"({' | '.join(map(_quoted, words))}) {self.literal(close)}"
            return self.until(f"{name}_text", close)

        return value

    def members(
        self, name: str, schema: Schema, key_open: str, key_close: str, value: Callable[[str, Any], str], join: str
    ) -> str:
        """The arguments in the order of the schema; those that are not required may be left out."""
        needed = set(schema.get("required", ()))
        known: Mapping[str, Any] = schema.get("properties", {})
        glue = self.literal(join)
        rest = [self.rule(f"{name}_end", '""')] * 2
        for n, (key, each) in reversed(list(enumerate(known.items()))):
            pair = self.rule(
                f"{name}_p{n}", f"{self.literal(key_open + key + key_close)} {value(f'{name}_p{n}', each)}"
            )
            first, later = f"{pair} {rest[1]}", f"{glue} {pair} {rest[1]}"
            if key not in needed:
                first, later = f"{first} | {rest[0]}", f"{later} | {rest[1]}"
            rest = [self.rule(f"{name}_a{n}", first), self.rule(f"{name}_b{n}", later)]
        return rest[0]


class _QuotedValues:
    """Values whose strings stand between quotes of the model's own; deep objects and lists in the same way."""

    def __init__(self, writer: _Writer, quote: str, root: Schema) -> None:
        self._writer = writer
        self._mark = quote
        self._quote = writer.literal(quote)
        self._root = root
        self._free = ""

    def value(self, name: str, schema: Any) -> str:
        kinds = schema.get("type") if isinstance(schema, dict) else None
        if isinstance(kinds, list):
            return self._either(name, [{**schema, "type": kind} for kind in kinds])
        if isinstance(schema, dict) and "anyOf" in schema:
            return self._either(name, schema["anyOf"])
        if kinds == "string":
            return self._string(name, words_of(schema))
        if kinds in ("integer", "number", "boolean", "null"):
            return _compact(schema, self._root)
        if kinds == "array" and "items" in schema:
            return self._list(self._writer.rule(f"{name}_i", self.value(f"{name}_i", schema["items"])))
        if kinds == "object" and schema.get("properties"):
            return f'"{{" {self._writer.members(name, schema, "", ":", self.value, ",")} "}}"'
        return self._anything()

    def _either(self, name: str, schemas: Sequence[Any]) -> str:
        choices = [
            self._writer.rule(f"{name}_o{n}", self.value(f"{name}_o{n}", each)) for n, each in enumerate(schemas)
        ]
        return f"({' | '.join(choices)})"

    def _string(self, name: str, words: Sequence[str]) -> str:
        if words:
            return f"{self._quote} ({' | '.join(map(_quoted, words))}) {self._quote}"
        return f"{self._quote} {self._writer.until(f'{name}_text', self._mark)}"

    def _list(self, item: str) -> str:
        return f'"[" ({item} ("," {item})*)? "]"'

    def _anything(self) -> str:
        if not self._free:
            self._free = "free"
            plain = _compact({"type": ["number", "boolean", "null"]}, {})
            self._writer.rule("FREE_KEY", "/[A-Za-z_][A-Za-z0-9_]{0,63}/")
            self._writer.rule("free_pair", 'FREE_KEY ":" free')
            choices = (self._string("free", ()), plain, self._list("free"), '"{" (free_pair ("," free_pair)*)? "}"')
            self._writer.rule("free", " | ".join(choices))
        return self._free


def unenforced(schema: Any, form: ToolForm, place: str = "") -> str:
    """Where the form of calls cannot hold a value to its schema (its strings are not JSON), with why; "" when it can."""
    if form.shape != "pairs" or not isinstance(schema, dict):
        return ""
    for name, each in schema.get("properties", {}).items():
        at = f"{place}.properties.{name}"
        if is_string(each):
            held = [key for key in ("pattern", "format", "minLength", "maxLength") if key in each]
            if held:
                return f"{at}.{held[0]}: strings of this model's tool calls are not JSON and cannot be held to it"
        elif form.quote and (found := _unquoted(each, form, at)):
            return found
    return ""


def _unquoted(schema: Any, form: ToolForm, place: str) -> str:
    kinds = schema.get("type") if isinstance(schema, dict) else None
    if kinds in ("integer", "number", "boolean", "null"):
        return ""
    if kinds == "object" and schema.get("properties"):
        return unenforced(schema, form, place)
    return (
        f"{place}: only numbers, truth values, strings and objects with properties can be held to a schema in this form"
    )


def is_string(schema: Any) -> bool:
    """Whether the schema allows strings and nothing else."""
    return isinstance(schema, dict) and schema.get("type") == "string"


def words_of(schema: Schema) -> list[str]:
    """The strings that an enum or a constant allows; none when any string will do."""
    return [word for word in (*schema.get("enum", ()), schema.get("const")) if isinstance(word, str)]


def _compact(schema: Any, root: Schema) -> str:
    """JSON inside a form of its own; definitions stand in ``root``."""
    whole = {**schema, "$defs": root["$defs"]} if isinstance(schema, dict) and "$defs" in root else schema
    return _json(whole, whitespace_flexible=False, item_separator=", ", key_separator=": ")


def _json(schema: Schema | bool, **options: Any) -> str:
    whole = {**(schema if isinstance(schema, dict) else {"anyOf": [schema]}), "x-guidance": options}
    return f"%json {json.dumps(whole)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
