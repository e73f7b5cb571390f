"""The step that compiles JSON schemas known at build: checks them as a request's are and writes their plain form.

Schemas come from its sources (JSON files); a file holds one schema, or a list of tools in OpenAI's shape whose parameters are
taken. Shipped below ``grammars/MODEL``, what it writes is found by the model's serve half: a request with such a schema is
not checked again. A schema that cannot be enforced stops the build and names the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lsbuild.api import Json, SourceError, StepContext
from lsbuild_plugins.onnx.serve import bounds
from lsbuild_plugins.onnx.serve.constraint import reason
from lsbuild_plugins.onnx.serve.grammar import Wanted, write
from lsbuild_plugins.onnx.serve.known import digest
from lsbuild_plugins.onnx.serve.schema import Schema, plain
from lsbuild_runtime.http import ApiError

_HINT = "Leave the keyword out, or say the same with what docs/models.md lists under structured output."


def run(context: StepContext) -> Mapping[str, Json]:
    """Write ``schemas.json``: digest of a schema -> its plain form. Facts: how many."""
    found = {digest(schema): compiled(schema, name) for name, schema in _given(context)}
    save(context.out, found)
    return {"schemas": len(found)}


def save(out: Path, found: Mapping[str, Schema | bool]) -> None:
    """Write ``schemas.json``, which the serve half finds below ``grammars/MODEL``."""
    (out / "schemas.json").write_bytes(msgspec.json.encode(found, order="sorted") + b"\n")


def compiled(schema: Any, name: str) -> Schema | bool:
    """The plain form of a schema that the engine takes; SourceError naming ``name`` and the place for any other."""
    from llguidance import LLMatcher

    try:
        found = plain(schema, name)
        bounds.check(found, name)
    except ApiError as error:
        raise SourceError(error.message, where=name, hint=_HINT) from None
    grammar = LLMatcher.grammar_from_lark(write(Wanted(answer=found), None, None, lambda text: (text,)))
    if said := LLMatcher.validate_grammar(grammar, None):
        raise SourceError(f"{name}: the schema cannot be enforced: {reason(said)}", where=name, hint=_HINT)
    return found


def _given(context: StepContext) -> Iterator[tuple[str, Any]]:
    for source in context.sources.values():
        for file in source.files:
            yield from _read(file.location, file.path)


def _read(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    try:
        value = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise SourceError(
            f"{name} is not JSON: {error}", where=name, hint="Give a JSON schema, or a list of tools."
        ) from None
    if not isinstance(value, list):
        yield name, value
        return
    for index, tool in enumerate(value):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or "parameters" not in function:
            raise SourceError(
                f"{name}[{index}] is no function with parameters", where=name, hint="Give tools in OpenAI's shape."
            )
        yield f"{name}[{index}].function.parameters", function["parameters"]
