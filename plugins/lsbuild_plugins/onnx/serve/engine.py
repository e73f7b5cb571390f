"""The entry of a language model: opens its folder and answers ``Inference``; requests become tasks for one thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve import known
from lsbuild_plugins.onnx.serve.chat import check_supported, template_messages
from lsbuild_plugins.onnx.serve.constraint import Grammars
from lsbuild_plugins.onnx.serve.folder import read_folder
from lsbuild_plugins.onnx.serve.forms import marks
from lsbuild_plugins.onnx.serve.generate import Model, Task, generate
from lsbuild_plugins.onnx.serve.known import Known
from lsbuild_plugins.onnx.serve.kv import open_memory
from lsbuild_plugins.onnx.serve.scheduler import Check, Scheduler, Stream
from lsbuild_plugins.onnx.serve.session import number, open_for
from lsbuild_plugins.onnx.serve.structured import Planner, begun
from lsbuild_plugins.onnx.serve.template import ChatTemplate, TemplateRefusal
from lsbuild_plugins.onnx.serve.text import Vocabulary
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_runtime.http import ApiError, Context, Span, Watch
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Completion, Delta, Host, Placement, Sampling, Usage

QUEUE = 32
"""Requests that may wait for one model, unless ``config.queue`` says otherwise."""


def open_engine(service: Service, root: Path, host: Host) -> Engine:
    """Open the model folder ``root/service.path``; raises ApiError 503 naming what is wrong with it.

    ``service.config``: ``threads`` (default: the CPUs this process may use), ``queue`` (default 32) and ``execution`` (see
    execution.Execution).
    """
    folder = root / service.path
    card, tokenizer = read_folder(service, folder)
    if not isinstance(card, model_format.Decoder):
        raise unavailable(service.name, "model.json describes an encoder; a language model was expected")
    template = _template(service, folder / "chat_template.jinja")
    opened = open_for(service, folder / "model.onnx", host)
    try:
        memory = open_memory(opened.session, card)
    except ValueError as error:
        raise unavailable(service.name, f"the graph does not fit: {error}; build the artifact again") from error
    model = Model(card, memory, Vocabulary(tokenizer, tuple(marks(card.tools, card.reasoning))))
    engine = Engine(service.name, model, template, queue=number(service, "queue", QUEUE), schemas=_known(service, root))
    engine.placement = opened.placement
    return engine


def _known(service: Service, root: Path) -> Known:
    try:
        return known.read(root, service.name)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise unavailable(service.name, f"its grammars cannot be read ({error}); build the artifact again") from error


def _template(service: Service, path: Path) -> ChatTemplate | None:
    try:
        return ChatTemplate(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError, TemplateRefusal) as error:
        raise unavailable(service.name, f"{path.name} cannot be used ({error}); build the artifact again") from error


class Engine:
    """A language model behind the ``Inference`` port. Thread-safe: prompts are made on the caller's thread."""

    def __init__(
        self, name: str, model: Model, template: ChatTemplate | None, *, queue: int, schemas: Known | None = None
    ) -> None:
        self.placement: Placement | None = None
        self._name = name
        self._model = model
        self._template = template
        card, vocabulary = model.card, model.vocabulary
        self._planner = Planner(card.tools, card.reasoning, vocabulary.pieces, schemas or {})
        self._grammars = Grammars(vocabulary, card.vocab, card.eos)
        self._scheduler = Scheduler(name, queue)

    def chat(self, chat: Chat, context: Context) -> Stream[Delta]:
        """Answer messages. Refusals, a too long prompt and a full queue are raised here, before the first delta."""
        prompt, tools, text = self._read(chat)
        card = self._model.card
        held = self._planner.plan(chat, text, self._grammars)
        free = bool(tools) and held is None
        task = Task(
            prompt=prompt,
            budget=self._budget(len(prompt), chat.sampling, "messages"),
            sampling=chat.sampling,
            tools=card.tools if tools else None,
            functions=tools,
            must=bool(tools) and chat.tool_choice not in ("auto", "none"),
            parallel=chat.parallel_tool_calls,
            reasoning=card.reasoning,
            begun=card.reasoning is not None and begun(card.reasoning, text),
            held=held,
            opener=self._planner.opener if free else None,
            begun_call=partial(self._planner.begun_call, chat, self._grammars),
        )
        return self._submit("chat", task, context)

    def count(self, chat: Chat, context: Context) -> int:  # noqa: ARG002 - the port's shape; a count needs no time
        """See ports.Counter; refuses what ``chat`` refuses, but for the length."""
        return len(self._read(chat)[0])

    def complete(self, completion: Completion, context: Context) -> Stream[Delta]:
        """Continue a prompt. With ``echo`` each choice begins with the prompt, scored when logprobs are asked for."""
        prompt = self._prompt(completion.prompt)
        task = Task(
            prompt=prompt,
            budget=self._budget(len(prompt), completion.sampling, "prompt"),
            sampling=completion.sampling,
            echo=self._echo(completion, prompt) if completion.echo else None,
        )
        return self._submit("text_completion", task, context)

    def close(self) -> None:
        """Stop the thread; running requests end with Cancelled."""
        self._scheduler.close()

    def _read(self, chat: Chat) -> tuple[tuple[int, ...], Sequence[Mapping[str, Any]], str]:
        """The prompt's tokens, the tools that it offers, and its text."""
        check_supported(chat, self._model.card.tools)
        tools = chat.tools if chat.tool_choice != "none" else ()
        text = self._render(chat, tools)
        return self._model.vocabulary.encode(text), tools, text

    def _render(self, chat: Chat, tools: Sequence[Mapping[str, Any]]) -> str:
        card = self._model.card
        if self._template is None:
            raise ApiError(400, f"model {self._name!r} has no chat template; use /v1/completions", param="model")
        try:
            return self._template.render(
                template_messages(
                    chat.messages,
                    self._model.vocabulary.shield,
                    text_arguments=card.tools is not None and card.tools.text_arguments,
                ),
                tools,
                bos_token=card.bos_text,
                eos_token=card.eos_text,
                extra=chat.extra.get("chat_template_kwargs"),
            )
        except TemplateRefusal as error:
            raise ApiError(400, f"the chat template refuses these messages: {error}", param="messages") from error

    def _prompt(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        """Token ids of a completion prompt; an empty one is the beginning of a text, if the model has a token for that."""
        card = self._model.card
        if isinstance(prompt, str):
            ids = self._model.vocabulary.encode(prompt)
            if card.bos is not None and (card.add_bos or not ids) and ids[:1] != (card.bos,):
                ids = (card.bos, *ids)
        else:
            ids = tuple(prompt)
            if wrong := [token for token in ids if not 0 <= token < card.vocab]:
                raise ApiError(400, f"token id {wrong[0]} is not in 0..{card.vocab - 1}", param="prompt")
        if not ids:
            raise ApiError(400, "the prompt is empty, and this model has no token that begins a text", param="prompt")
        return ids

    def _echo(self, completion: Completion, prompt: tuple[int, ...]) -> str:
        text = completion.prompt
        return text if isinstance(text, str) else self._model.vocabulary.text(prompt)

    def _budget(self, prompt: int, sampling: Sampling, param: str) -> int:
        """How many tokens may be made; refuses what does not fit the context, and biases of unknown tokens."""
        card = self._model.card
        if wrong := [token for token in sampling.logit_bias if not 0 <= token < card.vocab]:
            raise ApiError(400, f"logit_bias: token id {wrong[0]} is not in 0..{card.vocab - 1}", param="logit_bias")
        asked = 1 if sampling.max_tokens is None else sampling.max_tokens
        if prompt + asked > card.context:
            raise ApiError(
                400,
                f"This model's maximum context length is {card.context} tokens. However, you requested {prompt + asked} "
                f"tokens ({prompt} in the {param}, {asked} in the completion). Reduce one of them.",
                param=param,
                code="context_length_exceeded",
            )
        return card.context - prompt if sampling.max_tokens is None else sampling.max_tokens

    def _submit(self, operation: str, task: Task, context: Context) -> Stream[Delta]:
        def start(check: Check) -> Iterator[Delta]:
            return observed(operation, self._name, generate(self._model, task, check), task, context)

        return self._scheduler.submit(start, context)


def observed(operation: str, name: str, deltas: Iterator[Delta], task: Task, context: Context) -> Iterator[Delta]:
    """Pass ``deltas`` on within a span; names and units are OpenTelemetry's GenAI conventions (tokens, seconds)."""
    about = {"gen_ai.operation.name": operation, "gen_ai.request.model": name}
    began, first, reasons = time.monotonic(), 0.0, []
    with context.watch.span(f"{operation} {name}", **about, **_request(task.sampling)) as span:
        for delta in deltas:
            first = first or time.monotonic()
            if delta.finish:
                reasons.append(delta.finish)
            if delta.usage:
                _report(span, context.watch, delta.usage, about, (began, first))
                span.set(**{"gen_ai.response.finish_reasons": reasons})
            yield delta


def _request(sampling: Sampling) -> dict[str, Any]:
    values = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}
    return {f"gen_ai.request.{key}": value for key, value in values.items() if value is not None}


def _report(span: Span, watch: Watch, usage: Usage, about: Mapping[str, str], times: tuple[float, float]) -> None:
    began, first = times
    span.set(
        **{
            "gen_ai.usage.input_tokens": usage.prompt,
            "gen_ai.usage.output_tokens": usage.completion,
            "gen_ai.usage.cache_read.input_tokens": usage.cached,
        }
    )
    tokens = "gen_ai.client.token.usage"
    watch.count(tokens, usage.prompt, **about, **{"gen_ai.token.type": "input"})
    watch.count(tokens, usage.completion, **about, **{"gen_ai.token.type": "output"})
    watch.count("gen_ai.server.time_to_first_token", first - began, **about)
    if usage.completion > 1:
        each = (time.monotonic() - first) / (usage.completion - 1)
        watch.count("gen_ai.server.time_per_output_token", each, **about)
