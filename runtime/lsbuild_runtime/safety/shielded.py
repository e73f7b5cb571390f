"""A language model or agent behind shields: what goes in is looked at before it answers, what comes out before it leaves.

It is an Inference port around another one, so neither routes nor agents know of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from lsbuild_runtime.counting import count
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import Chat, Completion, Delta, Inference, ToolCall, Usage
from lsbuild_runtime.safety import Finding, Guard, Safety, Where
from lsbuild_runtime.safety.looking import Blocked, Look


class Shielded:
    """Implements ports.Inference over ``port``. A text passes through all shields of ``look`` in their order.

    A refusal is a choice whose last delta has ``refusal`` and the reason ``content_filter``. Log probabilities are
    refused: they name tokens before these were looked at.
    """

    def __init__(self, port: Inference, look: Look) -> None:
        self._port = port
        self.look = look

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        _without_logprobs(chat.sampling.logprobs)
        try:
            messages = [self.message(message, context) for message in chat.messages]
        except Blocked as blocked:
            yield from _refused(blocked, chat.sampling.n)
            return
        deltas = self._port.chat(replace(chat, messages=messages), context)
        yield from self._answer(deltas, chat.sampling.n, context)

    def count(self, chat: Chat, context: Context) -> int:
        """See ports.Counter: of what the model may read, or of the messages as they are when they would be refused."""
        with contextlib.suppress(Blocked):
            chat = replace(chat, messages=[self.message(message, context) for message in chat.messages])
        return count(self._port, chat, context)

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """See ports.Inference; ApiError 400 for a prompt of token ids, which nobody can look at."""
        _without_logprobs(completion.sampling.logprobs)
        if not isinstance(completion.prompt, str):
            raise ApiError(
                400, "prompt: this model has a shield, which reads text; send the prompt as text", param="prompt"
            )
        try:
            prompt = self.look.look(completion.prompt, "input", context)
        except Blocked as blocked:
            yield from _refused(blocked, completion.sampling.n)
            return
        deltas = self._port.complete(replace(completion, prompt=prompt), context)
        yield from self._answer(deltas, completion.sampling.n, context)

    def message(self, message: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """The message as the model may read it. What the operator and the model said is left as it is."""
        where: Where | None = {"user": "input", "tool": "retrieved"}.get(message["role"])  # type: ignore[assignment]
        content = message.get("content")
        if where is None or not content:
            return message
        if isinstance(content, str):
            return {**message, "content": self.look.look(content, where, context)}
        parts = [
            {**part, "text": self.look.look(part["text"], where, context)} if "text" in part else part
            for part in content
        ]
        return {**message, "content": parts}

    def _answer(self, deltas: Iterator[Delta], count: int, context: Context) -> Iterator[Delta]:
        choices: dict[int, _Choice] = {}
        refused = 0
        try:
            for delta in deltas:
                choice = choices.get(delta.index)
                if choice is None:
                    choice = choices[delta.index] = _Choice(self.look.shields, context)
                try:
                    yield from self._looked_at(delta, choice, context)
                except Blocked as blocked:
                    choice.ended = True
                    yield Delta(
                        delta.index, refusal=blocked.finding.message, finish="content_filter", usage=delta.usage
                    )
                    refused += 1
                    if refused == count:  # nothing that the model goes on with would be sent
                        return
        finally:
            close = getattr(deltas, "close", None)
            if close is not None:
                close()

    def _looked_at(self, delta: Delta, choice: _Choice, context: Context) -> Iterator[Delta]:
        if choice.ended:
            if delta.usage is not None:
                yield Delta(delta.index, usage=delta.usage)
            return
        text = choice.text.feed(delta.text) + (choice.text.end() if delta.finish else "")
        reasoning = choice.reasoning.feed(delta.reasoning) + (choice.reasoning.end() if delta.finish else "")
        choice.ended = delta.finish is not None
        blocked = choice.text.blocked or choice.reasoning.blocked
        if blocked is not None:
            if text:
                yield Delta(delta.index, text)
            raise Blocked(blocked)
        calls = tuple(self._call(call, context) for call in delta.tool_calls)
        quoted = tuple(replace(each, quote=self.look.look(each.quote, "output", context)) for each in delta.annotations)
        if text or reasoning or calls or quoted or delta.finish or delta.usage:
            yield replace(delta, text=text, reasoning=reasoning, tool_calls=calls, annotations=quoted)

    def _call(self, call: ToolCall, context: Context) -> ToolCall:
        return replace(call, arguments=self.look.look(call.arguments, "tool_args", context))


class _Choice:
    """The guards of one choice."""

    def __init__(self, shields: Sequence[Safety], context: Context) -> None:
        self.text = _Chain([shield.guard("output", context) for shield in shields])
        self.reasoning = _Chain([shield.guard("output", context) for shield in shields])
        self.ended = False


class _Chain:
    """Several guards, one behind the other."""

    def __init__(self, guards: Sequence[Guard]) -> None:
        self._guards = guards

    @property
    def blocked(self) -> Finding | None:
        """What the first guard that ended the stream found."""
        return next((guard.blocked for guard in self._guards if guard.blocked is not None), None)

    def feed(self, text: str) -> str:
        """What comes out of the last one. What stands before a block still passes through the later ones, at the end."""
        for place, guard in enumerate(self._guards):
            text = guard.feed(text)
            if guard.blocked is not None:
                return self._rest(place + 1, text)
        return text

    def end(self) -> str:
        """The rest."""
        return "" if self.blocked is not None else self._rest(0, "")

    def _rest(self, first: int, text: str) -> str:
        for guard in self._guards[first:]:
            text = guard.feed(text) + guard.end()
        return text


def _refused(blocked: Blocked, choices: int) -> Iterator[Delta]:
    for index in range(choices):
        yield Delta(index, refusal=blocked.finding.message, finish="content_filter")
    yield Delta(choices - 1, usage=Usage())


def _without_logprobs(logprobs: int | None) -> None:
    if logprobs is not None:
        why = "this model has a shield, and log probabilities name tokens before it has looked at them"
        raise ApiError(400, f"logprobs: {why}", param="logprobs", code="unsupported_parameter")
