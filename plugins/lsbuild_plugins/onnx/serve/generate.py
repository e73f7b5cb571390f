"""The loop of one request: read the prompt, then choose and append tokens; it runs on the model's own thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from lsbuild_plugins.onnx.serve.constraint import Constraint
from lsbuild_plugins.onnx.serve.format import Decoder
from lsbuild_plugins.onnx.serve.forms import Reasoning, ToolForm
from lsbuild_plugins.onnx.serve.kv import Logits, Memory, chunks, reuse
from lsbuild_plugins.onnx.serve.output import Output, Reader
from lsbuild_plugins.onnx.serve.reasoning import ReasoningParser
from lsbuild_plugins.onnx.serve.sampler import Row, Sampler, log_normaliser, top
from lsbuild_plugins.onnx.serve.scheduler import Check
from lsbuild_plugins.onnx.serve.text import Vocabulary
from lsbuild_plugins.onnx.serve.tools import ToolCallParser
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ports import Delta, FinishReason, Sampling, TokenLogprob, Usage

CHUNK = 512
"""Prompt tokens read in one run: the longest wait before a cancelled request stops."""
SCORED_CHUNK = 64
"""The same when every row's logits are wanted: 64 rows of a vocabulary of 150,000 are 38 MB."""


class Model(Struct, frozen=True):
    """What a generation works with."""

    card: Decoder
    memory: Memory
    vocabulary: Vocabulary


class Task(Struct, frozen=True):
    """One checked request: ``len(prompt) + budget`` fits the context. ``echo`` is the prompt's text, or None."""

    prompt: tuple[int, ...]
    budget: int
    sampling: Sampling
    echo: str | None = None
    tools: ToolForm | None = None
    functions: Sequence[Mapping[str, Any]] = ()
    must: bool = False
    """Whether the answer has to be a call."""
    parallel: bool = True
    reasoning: Reasoning | None = None
    begun: bool = False
    """Whether the prompt ends inside a thought."""
    held: Constraint | None = None
    """What every choice is held to, each by a copy of its own."""
    opener: int | None = None
    """The token at which a call begins that the model makes by itself; None where nothing holds such a call."""
    begun_call: Callable[[], Constraint | None] = lambda: None
    """What such a call is held to, from that token on; asked when it comes."""


def generate(model: Model, task: Task, check: Check) -> Iterator[Delta]:
    """All choices, one after the other; each starts from the prompt's keys and values, which are computed once."""
    echoed: tuple[TokenLogprob, ...] = ()
    cached = 0
    if task.echo is not None and task.sampling.logprobs is not None:
        echoed, first = _score_prompt(model, task, check)
    else:
        cached, first = _read_prompt(model, task.prompt, check)
    made = 0
    for index in range(task.sampling.n):
        model.memory.keep(len(task.prompt))
        if task.echo is not None:
            yield Delta(index=index, text=task.echo, logprobs=echoed)
        choice = _Choice(model, task, index, check)
        yield from choice.deltas(first.copy())
        made += choice.made
        last = index == task.sampling.n - 1
        usage = Usage(prompt=len(task.prompt), completion=made, cached=cached) if last else None
        yield choice.output.finish(choice.reason, usage)


def _read_prompt(model: Model, prompt: Sequence[int], check: Check) -> tuple[int, Row]:
    """Read what is not held yet; gives the number of reused tokens and the logits after the last one, f32[V]."""
    cached = reuse(model.memory, prompt)
    row: Logits | None = None
    for start, stop in chunks(cached, len(prompt), CHUNK):
        check()
        row = model.memory.run(prompt[start:stop], slice(-1, None))
    assert row is not None, "a prompt has at least one token"  # noqa: S101 - narrows the type
    return cached, row[0]


def _score_prompt(model: Model, task: Task, check: Check) -> tuple[tuple[TokenLogprob, ...], Row]:
    """Read the whole prompt and score each token by the ones before it.

    The first token follows nothing: its ``logprob`` is NaN and the wire shows null.
    """
    prompt, k = task.prompt, task.sampling.logprobs or 0
    model.memory.keep(0)
    scored = [_token(model.vocabulary, prompt[0], float("nan"))]
    rows: Logits | None = None
    for start, stop in chunks(0, len(prompt), SCORED_CHUNK):
        check()
        rows = model.memory.run(prompt[start:stop], slice(None))
        following = prompt[start + 1 : stop + 1]
        scored.extend(score(model.vocabulary, row, token, k) for row, token in zip(rows, following, strict=False))
    assert rows is not None  # noqa: S101 - narrows the type
    return tuple(scored), rows[-1]


def score(vocabulary: Vocabulary, row: Row, token: int, k: int) -> TokenLogprob:
    """The log probability of ``token`` and of the ``k`` most probable ones, under the unmodified distribution."""
    norm = log_normaliser(row)
    best = tuple(_token(vocabulary, int(place), float(row[place]) - norm) for place in top(row, k)) if k else ()
    return _token(vocabulary, token, float(row[token]) - norm, best)


def _token(vocabulary: Vocabulary, token: int, logprob: float, best: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    raw = vocabulary.raw(token)
    return TokenLogprob(token=raw.decode("utf-8", "replace"), logprob=logprob, raw=raw, top=best)


class _Choice:
    """One answer: ``deltas`` until it ends, then ``reason`` and the number of chosen tokens ``made``."""

    def __init__(self, model: Model, task: Task, index: int, check: Check) -> None:
        self.output = Output(model.vocabulary, index, task.sampling.stop, _reader(task))
        self.reason: FinishReason = "length"
        self.made = 0
        self._model = model
        self._task = task
        self._sampler = Sampler(task.sampling, index)
        self._check = check
        self._held = task.held.copy() if task.held is not None else None
        self._ended = False
        self._left = 0

    def deltas(self, row: Row) -> Iterator[Delta]:
        """Choose up to ``budget`` tokens; the model does not run for a token after the last."""
        run, end = self._model.memory.run, frozenset(self._model.card.eos)
        while self.made < self._task.budget:
            self._check()
            token, scored = self._choose(row)
            if token in end:
                self.made += 1
                self.reason = "stop"
                return
            read = (token, *self._forced(token))
            rows = run(read, slice(None)).copy() if scored is not None and len(read) > 1 else None
            yield from self._given(token, scored)
            for place, each in enumerate(read[1:]):
                if self._complete():
                    break
                yield from self._given(each, None if rows is None else self._score(rows[place], each))
            if self._complete():
                self.reason = "stop"
                return
            if self.made < self._task.budget:
                row = run(read, slice(-1, None))[0] if rows is None else rows[-1]

    def _forced(self, token: int) -> tuple[int, ...]:
        """The tokens that the grammar lets follow ``token`` without a choice, as far as the budget goes."""
        if self._held is None and token == self._task.opener and not self.output.thinking:
            self._held = self._task.begun_call()
        if self._held is None:
            return ()
        forced = self._held.take(token)
        kept = forced[: self._task.budget - self.made - 1]
        self._ended = self._held.ended and len(kept) == len(forced)
        self._left = len(kept)
        for each in kept:
            self._sampler.follow(each)
        return kept

    def _given(self, token: int, scored: TokenLogprob | None) -> Iterator[Delta]:
        self.made += 1
        self._left -= 1
        delta = self.output.push(token, scored)
        if delta is not None:
            yield delta

    def _choose(self, row: Row) -> tuple[int, TokenLogprob | None]:
        plain = row.copy() if self._task.sampling.logprobs is not None else None
        self._mask(row)
        token = self._sampler.choose(row)
        return token, self._score(plain, token) if plain is not None else None

    def _mask(self, row: Row) -> None:
        if self._held is None:
            return
        try:
            self._held.mask(row)
        except ApiError:
            if self._task.held is not None:
                raise
            self._held = None  # a schema that nobody insists on turned out to be too complex

    def _score(self, row: Row, token: int) -> TokenLogprob:
        return score(self._model.vocabulary, row, token, self._task.sampling.logprobs or 0)

    def _complete(self) -> bool:
        grammar_ended = self._ended and self._left < 0
        return grammar_ended or self.output.stopped or (self.output.calls > 0 and not self._task.parallel)


def _reader(task: Task) -> Reader:
    """What divides the text of an answer: thoughts first, then calls."""
    thoughts = ReasoningParser(task.reasoning, begun=task.begun) if task.reasoning is not None else None
    calls = ToolCallParser(task.tools, task.functions, task.must) if task.tools is not None else None
    return Reader(thoughts, calls)
