"""The step that looks at what a model is told with every request (api.Compiled.prompted): compiles its schemas, counts it.

It opens no graph. What cannot be held or does not fit is a warning, for others may answer in the model's place, and a request
is refused by name where it comes to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import Struct
from tokenizers import Tokenizer

from lsbuild.api import Json, SourceError, StepContext
from lsbuild_plugins.onnx.compile.schemas import compiled, save
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.chat import template_messages
from lsbuild_plugins.onnx.serve.forms import ToolForm, marks
from lsbuild_plugins.onnx.serve.grammar import unenforced
from lsbuild_plugins.onnx.serve.known import digest
from lsbuild_plugins.onnx.serve.schema import Schema
from lsbuild_plugins.onnx.serve.template import TemplateRefusal, render
from lsbuild_plugins.onnx.serve.text import Vocabulary


class Function(Struct, frozen=True):
    """A function that the model is told of."""

    name: str
    description: str
    parameters: dict[str, Any]


class Told(Struct, frozen=True):
    """The step's options: see api.Compiled.prompted."""

    model: str
    messages: tuple[dict[str, Any], ...]
    functions: tuple[Function, ...]
    passages: int
    answer: int


def run(context: StepContext) -> Mapping[str, Json]:
    """Write ``schemas.json``, as `schemas.run` does. Facts: ``schemas``, ``prompt`` (tokens) and ``warnings``."""
    told = msgspec.convert(context.options, Told)
    folder = context.inputs["model"]
    card = cast("model_format.Decoder", model_format.read(folder))
    found, warnings = _schemas(told, card.tools)
    if told.functions:
        save(context.out, found)
    try:
        size = len(_prompt(told, card, folder))
    except (TemplateRefusal, OSError) as error:
        return {"schemas": len(found), "warnings": [*warnings, f"{told.model} cannot be asked: {error}"]}
    return {"schemas": len(found), "prompt": size, "warnings": [*warnings, *_fits(told, size, card.context)]}


def _schemas(told: Told, form: ToolForm | None) -> tuple[Mapping[str, Schema | bool], list[str]]:
    """What the serve half has to find, and what is wrong with the others."""
    if form is None:
        names = ", ".join(each.name for each in told.functions)
        fault = f"the chat template of {told.model} knows no tools, so that it refuses requests with them: {names}"
        return {}, [fault] if names else []
    found: dict[str, Schema | bool] = {}
    faults: list[str] = []
    for each in told.functions:
        try:
            schema = compiled(each.parameters, each.name)
            fault = unenforced(schema, form, each.name)
        except SourceError as error:
            fault = error.what
        if fault:
            faults.append(
                f"{told.model} cannot be held to the parameters of {each.name} while it writes a call: {fault}"
            )
        else:
            found[digest(each.parameters)] = schema
    return found, faults


def _prompt(told: Told, card: model_format.Decoder, folder: Path) -> Sequence[int]:
    """The tokens that every request begins with."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    vocabulary = Vocabulary(tokenizer, tuple(marks(card.tools, card.reasoning)))
    text_arguments = card.tools is not None and card.tools.text_arguments
    functions = [{"type": "function", "function": msgspec.to_builtins(each)} for each in told.functions]
    text = render(
        (folder / "chat_template.jinja").read_text(encoding="utf-8"),
        template_messages(told.messages, vocabulary.shield, text_arguments=text_arguments),
        functions if card.tools is not None else (),
        bos_token=card.bos_text,
        eos_token=card.eos_text,
    )
    return vocabulary.encode(text)


def _fits(told: Told, size: int, context: int) -> Iterator[str]:
    """A warning where question, passages and answer have no room beside what is always there."""
    parts = f"{size} tokens of instructions and tools, up to {told.answer} of an answer"
    if size + told.answer >= context:
        why = "are more than its context, so that it refuses every request"
    elif size + told.passages + told.answer >= context:
        parts += f" and up to about {told.passages} of passages"
        why = "leave no room for a question in its context"
    else:
        return
    yield f"{told.model}: {parts} {why} of {context}; raise its context, or lower the agent's limits"
