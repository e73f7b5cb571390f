"""Proves that a chat template renders in the artifact exactly as it does in transformers; changes nothing in it.

The artifact renders with minijinja; transformers with jinja2's ImmutableSandboxedEnvironment. Both render the same
conversations here, and any difference stops the build.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from lsbuild.api import GateError
from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint
from lsbuild_plugins.onnx.compile.forms import Found, Render, find
from lsbuild_plugins.onnx.compile.tokens import Specials
from lsbuild_plugins.onnx.serve.template import ChatTemplate, TemplateRefusal

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a template is asked to render."""

    name: str
    messages: tuple[Message, ...]
    tools: tuple[Message, ...] = ()
    prompt: bool = True
    """Whether the start of the assistant's answer is added."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found out about a template."""

    rendered: int
    """Conversations that both engines rendered, byte for byte the same."""
    refused: int
    """Conversations that both engines refused (a template may demand that roles alternate)."""
    found: Found
    """How it writes tool calls and reasoning."""


_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather at a place, é <b>&</b> "quoted".',
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer", "enum": [1, 3]}},
            "required": ["place"],
        },
    },
}
_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": {"place": "Zürich", "days": 3, "exact": True, "unit": None}},
}
_SYSTEM = {"role": "system", "content": "You are terse.\n  Answer in one line. "}
_ASK = {"role": "user", "content": "How is the weather in Zürich?  <|x|> {{ 1 }} \"a\" 'b' & <c> 日本\n\n"}
_CALLED = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
_RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call_1", "content": '{"sky": "clear"}'}
_ANSWER = {"role": "assistant", "content": "Clear — 21 °C."}

CONVERSATIONS = (
    Conversation("one question", (_ASK,)),
    Conversation("one question, no answer begun", (_ASK,), prompt=False),
    Conversation("instructions and a question", (_SYSTEM, _ASK)),
    Conversation("several turns", (_SYSTEM, _ASK, _ANSWER, _ASK)),
    Conversation("a finished exchange", (_ASK, _ANSWER), prompt=False),
    Conversation("two questions in a row", (_ASK, _ASK)),
    Conversation("tools", (_SYSTEM, _ASK), (_WEATHER,)),
    Conversation("tools without instructions", (_ASK,), (_WEATHER, _WEATHER)),
    Conversation("a tool call and its result", (_ASK, _CALLED, _RESULT), (_WEATHER,)),
    Conversation("a tool call and its answer", (_SYSTEM, _ASK, _CALLED, _RESULT, _ANSWER, _ASK), (_WEATHER,)),
    Conversation("two results", (_ASK, _CALLED, _RESULT, _RESULT, _ANSWER), (_WEATHER,), prompt=False),
    Conversation("a tool call alone", (_ASK, _CALLED), (_WEATHER,), prompt=False),
)


def find_template(checkpoint: Checkpoint) -> str | None:
    """The template's text: chat_template.jinja, else tokenizer_config.json (``default`` when it names several)."""
    path = checkpoint.files.get("chat_template.jinja")
    if path is not None:
        return path.read_text(encoding="utf-8")
    found = checkpoint.json("tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def prove(text: str, bos: str, eos: str, where: str, specials: Collection[str] = ()) -> Proof:
    """Render every conversation with both engines; GateError showing the first difference."""
    try:
        ours, theirs = ChatTemplate(text), _environment().from_string(text)
    except (TemplateRefusal, jinja2.TemplateError) as error:
        raise GateError(f"the chat template is not valid: {error}", where=where, hint=_HINT) from error
    tokens = {name: value for name, value in (("bos_token", bos), ("eos_token", eos)) if value}
    rendered = refused = 0
    for conversation in CONVERSATIONS:
        expected, found = _theirs(theirs, conversation, tokens), _ours(ours, conversation, bos, eos)
        if expected != found:
            raise _differs(conversation, expected, found, where)
        rendered, refused = rendered + (expected is not None), refused + (expected is None)
    if not rendered:
        raise GateError("the chat template refuses every conversation", where=where, hint=_HINT)
    return Proof(rendered, refused, find(text, _rendering(ours, bos, eos), specials))


def ship_template(checkpoint: Checkpoint, tokens: Specials, tokenizer: Tokenizer, out: Path) -> tuple[str, Found]:
    """Prove and write ``chat_template.jinja``; returns a fact for the report, and its forms of calls and reasoning."""
    text = find_template(checkpoint)
    if text is None:
        return "none: chat is refused, completions work", Found(None, None, "none")
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    proof = prove(text, tokens.bos_text, tokens.eos_text, checkpoint.uri, special)
    (out / "chat_template.jinja").write_text(text, encoding="utf-8")
    return f"{proof.rendered} conversations as in jinja2, {proof.refused} refused by both", proof.found


_HINT = "Correct chat_template.jinja in the model's folder, or remove it to serve the model without chat."


def _theirs(template: jinja2.Template, conversation: Conversation, tokens: Mapping[str, str]) -> str | None:
    tools = list(conversation.tools) or None
    messages = list(conversation.messages)
    try:
        return template.render(
            messages=messages, tools=tools, documents=None, add_generation_prompt=conversation.prompt, **tokens
        )
    except (jinja2.TemplateError, TypeError, ValueError):
        return None


def _ours(template: ChatTemplate, conversation: Conversation, bos: str, eos: str) -> str | None:
    try:
        return template.render(
            conversation.messages,
            conversation.tools,
            bos_token=bos,
            eos_token=eos,
            add_generation_prompt=conversation.prompt,
        )
    except TemplateRefusal:
        return None


def _rendering(template: ChatTemplate, bos: str, eos: str) -> Render:
    def render(messages: Sequence[Message], tools: Sequence[Message], *, prompt: bool) -> str | None:
        return _ours(template, Conversation("", tuple(messages), tuple(tools), prompt), bos, eos)

    return render


def _differs(conversation: Conversation, expected: str | None, found: str | None, where: str) -> GateError:
    if expected is None or found is None:
        engine = "jinja2 refuses it, minijinja renders it" if expected is None else "jinja2 renders it, minijinja fails"
        return GateError(f"the chat template with {conversation.name!r}: {engine}", where=where, hint=_HINT)
    at = next(
        (i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), min(len(expected), len(found))
    )
    near = slice(max(0, at - 20), at + 30)
    return GateError(
        f"the chat template with {conversation.name!r} differs at character {at}: transformers writes "
        f"{expected[near]!r}, the artifact would write {found[near]!r}",
        where=where,
        hint=_HINT,
    )


class _Generation(Extension):
    """``{% generation %}`` marks the assistant's own words for training; it renders what it encloses."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own convention

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """As transformers makes it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, loopcontrols],
        autoescape=False,  # prompts are no HTML; transformers does the same
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = time.strftime
    return environment


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
