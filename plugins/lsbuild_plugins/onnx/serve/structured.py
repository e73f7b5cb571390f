"""What a chat request holds its answer to: reads ``response_format``, tools and ``tool_choice``, writes the grammar.

It opens no model. Schemas that were checked at build are known by their digest and are not checked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from lsbuild_plugins.onnx.serve import bounds
from lsbuild_plugins.onnx.serve.constraint import Constraint, Grammars
from lsbuild_plugins.onnx.serve.forms import Reasoning, ToolForm
from lsbuild_plugins.onnx.serve.grammar import Function, Pieces, Wanted, unenforced, write
from lsbuild_plugins.onnx.serve.known import Known, digest
from lsbuild_plugins.onnx.serve.schema import Schema, children, plain, refusal
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ports import Chat

_TRIES = 200
"""Compilations spent on finding the part of a schema that is at fault."""


class Asked(Struct, frozen=True):
    """A schema of a request in plain form, where it came from, and whether its caller insists on it."""

    where: str
    schema: Schema | bool
    strict: bool
    name: str = ""


class Held(Struct, frozen=True):
    """What an answer is held to: the grammar and the parameter that asked for it."""

    grammar: str
    where: str


class Planner:
    """Makes the grammars of one model's answers."""

    def __init__(self, form: ToolForm | None, reasoning: Reasoning | None, pieces: Pieces, known: Known) -> None:
        self._form = form
        self._reasoning = reasoning
        self._pieces = pieces
        self._known = known

    def plan(self, chat: Chat, prompt: str, grammars: Grammars) -> Constraint | None:
        """The constraint of the answers to ``chat``, or None for a free one; ApiError 400 for what cannot be enforced.

        ``prompt`` is the rendered one: a template may begin a thought, or end one, for the model.
        """
        answer = self._answer(chat)
        functions = self._functions(chat)
        if answer is None and not functions:
            return None
        wanted = Wanted(
            answer=answer.schema if answer else None,
            functions=[Function(each.name, _object(each.schema)) for each in functions],
            calls="may" if chat.tool_choice == "auto" else "must",
            parallel=chat.parallel_tool_calls,
            thinking=self._thinking(prompt),
        )
        asked = [*([answer] if answer else ()), *functions]
        where = asked[0].where if answer or chat.tool_choice == "auto" else "tool_choice"
        try:
            return grammars.open(write(wanted, self._form, self._reasoning, self._pieces), where)
        except ApiError:
            _locate(asked, grammars)
            raise

    @property
    def opener(self) -> int | None:
        """The token that begins a call, where it is one token."""
        pieces = list(self._pieces(self._form.opener)) if self._form is not None and self._form.opener else []
        return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], int) else None

    def begun_call(self, chat: Chat, grammars: Grammars) -> Constraint | None:
        """What a call is held to that the model began although it need not: the functions, and their schemas where that can
        be done; None where it cannot, since nobody insists on it."""
        functions = [self._function(n, tool.get("function", {})) for n, tool in enumerate(chat.tools)]
        wanted = Wanted(
            functions=[Function(each.name, _object(each.schema)) for each in functions],
            calls="must",
            parallel=chat.parallel_tool_calls,
        )
        try:
            return grammars.open(write(wanted, self._form, None, self._pieces), "tools")
        except ApiError:
            return None

    def _answer(self, chat: Chat) -> Asked | None:
        """The schema of ``response_format``; a call that must be made leaves no room for an answer."""
        wanted = chat.response_format or {}
        kind = wanted.get("type", "text")
        if kind == "text" or chat.tool_choice not in ("auto", "none"):
            return None
        if kind == "json_object":
            return Asked("response_format", {"type": "object"}, strict=True)
        if kind != "json_schema":
            raise ApiError(400, f"response_format {kind!r} is not known", param="response_format")
        where = "response_format.json_schema.schema"
        given = wanted.get("json_schema", {}).get("schema")
        return Asked(where, {"type": "object"} if given is None else self._plain(given, where), strict=True)

    def _functions(self, chat: Chat) -> Sequence[Asked]:
        """The functions that a grammar has to know: none if the model may call freely and no function is strict."""
        if chat.tool_choice == "none" or self._form is None:
            return ()
        tools = [(n, tool.get("function", {})) for n, tool in enumerate(chat.tools)]
        if chat.tool_choice not in ("auto", "required"):
            tools = [(n, function) for n, function in tools if function.get("name") == chat.tool_choice]
        strict = any(function.get("strict") for _, function in tools)
        if chat.tool_choice == "auto" and not strict and not chat.response_format:
            return ()
        return [self._function(n, function) for n, function in tools]

    def _function(self, index: int, function: Mapping[str, Any]) -> Asked:
        """A function that is not strict has its schema enforced where that can be done, as OpenAI does its best there."""
        where, strict = f"tools[{index}].function.parameters", bool(function.get("strict"))
        name, given = str(function.get("name", "")), function.get("parameters")
        try:
            schema = {"type": "object"} if given is None else self._plain(given, where)
            fault = unenforced(schema, self._form, where) if self._form else ""
            if fault and strict:
                raise ApiError(400, fault, param=where, code="unsupported_schema")
        except ApiError:
            if strict:
                raise
            schema = {"type": "object"}
        return Asked(where, schema, strict, name)

    def _plain(self, schema: Any, where: str) -> Schema | bool:
        known = self._known.get(digest(schema))
        if known is not None:
            return known
        found = plain(schema, where)
        bounds.check(found, where)
        return found

    def _thinking(self, prompt: str) -> Any:
        marks = self._reasoning
        if marks is None:
            return "no"
        if begun(marks, prompt):
            return "begun"
        return "no" if prompt.rstrip().endswith(marks.close) else "may"


def begun(marks: Reasoning, prompt: str) -> bool:
    """Whether the prompt's end holds the opening mark of a thought, so that an answer starts inside it."""
    return prompt.rstrip().endswith(marks.open)


def _object(schema: Schema | bool) -> Schema:
    """Arguments are an object, whatever else the schema says."""
    if isinstance(schema, bool):
        return {"type": "object"}
    return schema if "type" in schema or "$ref" in schema else {**schema, "type": "object"}


def _locate(asked: Sequence[Asked], grammars: Grammars) -> None:
    """Raise the refusal of the smallest part of a schema that cannot be compiled by itself; return when all can."""
    tries = iter(range(_TRIES))
    for each in asked:
        place, said = _smallest(each.schema, "", _definitions(each.schema), grammars, tries)
        if said:
            raise refusal(each.where, place, said)


def _definitions(schema: Schema | bool) -> Mapping[str, Any]:
    return schema.get("$defs", {}) if isinstance(schema, dict) else {}


def _smallest(
    schema: Schema | bool, place: str, defs: Mapping[str, Any], grammars: Grammars, tries: Iterator[int]
) -> tuple[str, str]:
    """The place of the deepest part that fails, and why; ("", "") when ``schema`` compiles."""
    if isinstance(schema, bool) or next(tries, None) is None:
        return "", ""
    whole = {**schema, "$defs": defs} if defs else schema
    said = grammars.fault(write(Wanted(answer=whole), None, None, lambda text: (text,)))
    if not said:
        return "", ""
    for more, child in children(schema):
        found = _smallest(child, place + more, defs, grammars, tries)
        if found[1]:
            return found
    return place, said
