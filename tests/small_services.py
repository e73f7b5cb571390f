"""Small real services for tests: a model that repeats words, an encoder that counts letters, a store that counts words.

They implement the runtime's ports honestly (limits, cancellation, log probabilities that sum to one) in a few lines.
"""

from __future__ import annotations

import math
import re
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import SCHEMA, Manifest, Server, Service
from lsbuild_runtime.ports import (
    Chat,
    Completion,
    Delta,
    Embedded,
    FinishReason,
    Fusion,
    Hit,
    Host,
    Sampling,
    SearchMode,
    StoreInfo,
    TokenLogprob,
    ToolCall,
    Usage,
)

DIMENSIONS = 26
CONTEXT = 256


class Parrot:
    """A language model over words: it says the prompt's words again, one token each, then stops."""

    def __init__(self, pace: float = 0.0) -> None:
        self.pace = pace
        """Seconds between two tokens."""
        self.produced = 0
        self.ended = threading.Event()
        """Set when a generation ended, by whatever way."""
        self.last: Chat | None = None

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """Answer with the last message's words; with ``tool_choice`` naming a tool, call that tool instead."""
        self.last = chat
        prompt = _prompt(chat)
        last = str(chat.messages[-1].get("content") or "")
        tools = {tool["function"]["name"] for tool in chat.tools}
        if chat.tool_choice in tools:
            call = ToolCall("call_1", chat.tool_choice, '{"text": "x"}')
            yield Delta(tool_calls=(call,), finish="tool_calls", usage=Usage(len(prompt.split()), 1))
            return
        yield from self._generate(prompt.split(), last, chat.sampling, context)

    def count(self, chat: Chat, context: Context) -> int:  # noqa: ARG002 - the port's shape
        """See ports.Counter."""
        return len(_prompt(chat).split())

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """Continue with the prompt's words; token ids become ``w<id>``."""
        given = completion.prompt
        text = given if isinstance(given, str) else " ".join(f"w{token}" for token in given)
        if completion.echo:
            for choice in range(completion.sampling.n):
                tokens = _tokens(text)
                logprobs = tuple(
                    _logprob(token, tokens, float("nan") if place == 0 else None) for place, token in enumerate(tokens)
                )
                yield Delta(choice, text, logprobs=logprobs if completion.sampling.logprobs is not None else ())
        yield from self._generate(text.split(), text, completion.sampling, context)

    def _generate(self, prompt: list[str], text: str, sampling: Sampling, context: Context) -> Iterator[Delta]:
        if len(prompt) > CONTEXT:
            raise ApiError(
                400,
                f"{len(prompt)} tokens; the context holds {CONTEXT}",
                param="messages",
                code="context_length_exceeded",
            )
        self.ended.clear()
        produced = 0
        try:
            for choice in range(sampling.n):
                for delta in self._one(choice, text, sampling):
                    context.check()
                    produced += bool(delta.text)
                    self.produced += bool(delta.text)
                    yield delta
                    if self.pace:
                        time.sleep(self.pace)
            yield Delta(sampling.n - 1, usage=Usage(len(prompt), produced))
        finally:
            self.ended.set()

    def _one(self, choice: int, text: str, sampling: Sampling) -> Iterator[Delta]:
        tokens = _tokens(text)
        said = ""
        finish: FinishReason = "stop"
        met = ""
        for place, token in enumerate(tokens):
            if place == (sampling.max_tokens if sampling.max_tokens is not None else CONTEXT):
                finish = "length"
                break
            met = next((word for word in sampling.stop if word in said + token), "")
            if met:
                break
            said += token
            logprobs = () if sampling.logprobs is None else (_logprob(token, tokens, None, sampling.logprobs),)
            yield Delta(choice, token, logprobs=logprobs)
        yield Delta(choice, finish=finish, stop=met)


def _prompt(chat: Chat) -> str:
    return " ".join(str(message.get("content") or "") for message in chat.messages)


def _tokens(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def _logprob(token: str, tokens: Sequence[str], value: float | None = None, top: int = 0) -> TokenLogprob:
    """The log of the token's share among ``tokens``: a unigram model of the text itself."""
    shares = {word: tokens.count(word) / len(tokens) for word in dict.fromkeys(tokens)}
    best = sorted(shares, key=lambda word: -shares[word])[:top]
    return TokenLogprob(
        token,
        math.log(shares[token]) if value is None else value,
        token.encode(),
        tuple(TokenLogprob(word, math.log(shares[word]), word.encode()) for word in best),
    )


class Letters:
    """An encoder: the unit vector of letter counts, 26 numbers (or the first ``dimensions`` of them)."""

    def embed(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], context: Context, dimensions: int | None = None
    ) -> Embedded:
        """See ports.Embeddings."""
        if dimensions is not None and dimensions > DIMENSIONS:
            raise ApiError(400, f"dimensions: at most {DIMENSIONS}", param="dimensions")
        vectors = []
        tokens = 0
        for given in inputs:
            context.check()
            text = given if isinstance(given, str) else "".join(chr(97 + token % 26) for token in given)
            if len(text) > 10_000:
                raise ApiError(400, "input: longer than 10000 characters", param="input")
            tokens += len(text.split())
            counts = [text.lower().count(chr(97 + place)) + 1e-3 for place in range(dimensions or DIMENSIONS)]
            length = math.sqrt(sum(count * count for count in counts))
            vectors.append(struct.pack(f"<{len(counts)}f", *(count / length for count in counts)))
        return Embedded(tuple(vectors), tokens)


DOCUMENT = (
    "# Pumps\nThe red pump needs oil every week.\nThe blue pump needs no oil.\n# Valves\nA valve closes slowly.\n"
)


class Shelf:
    """A vector store over the lines of DOCUMENT, scored by the share of the query's words they hold."""

    def info(self) -> StoreInfo:
        """See ports.VectorIO."""
        return StoreInfo(
            files=1, chunks=len(self._hits()), bytes=len(DOCUMENT), dimensions=DIMENSIONS, embedding="letters"
        )

    def search(
        self,
        query: str,
        context: Context,  # noqa: ARG002
        *,
        limit: int = 10,
        mode: SearchMode | None = None,  # noqa: ARG002
        filters: Mapping[str, Any] | None = None,
        threshold: float = 0.0,
        fusion: Fusion | None = None,  # noqa: ARG002
    ) -> list[Hit]:
        """See ports.VectorIO; knows the filter ``eq`` on ``heading``."""
        if filters is not None and (filters["type"], filters.get("key")) != ("eq", "heading"):
            raise ApiError(400, "filters: only eq on heading", param="filters")
        words = set(re.findall(r"\w+", query.lower()))
        found = []
        for hit in self._hits():
            score = len(words & set(re.findall(r"\w+", hit.text.lower()))) / (len(words) or 1)
            if score > threshold and (filters is None or hit.heading == filters["value"]):
                found.append(replace(hit, score=score))
        return sorted(found, key=lambda hit: -hit.score)[:limit]

    def _hits(self) -> list[Hit]:
        hits: list[Hit] = []
        heading, start = "", 0
        for number, line in enumerate(DOCUMENT.splitlines(keepends=True), 1):
            text = line.rstrip("\n")
            if text.startswith("# "):
                heading = text[2:]
            else:
                place = (start, start + len(text), number, number)
                hits.append(Hit(f"c{number}", "file-1", "manual.md", text, 0.0, heading, {}, *place))
            start += len(line)
        return hits


def open_parrot(service: Service, root: Path, host: Host) -> Parrot:
    """Entry of a Parrot; ``config.pace`` as in Parrot."""
    return Parrot(float(service.config.get("pace", 0)))


def open_letters(service: Service, root: Path, host: Host) -> Letters:
    """Entry of Letters."""
    return Letters()


def open_shelf(service: Service, root: Path, host: Host) -> Shelf:
    """Entry of a Shelf."""
    return Shelf()


PARROT = Service(
    api="inference", name="org/parrot", provider="inline::parrot", entry="small_services:open_parrot",
    metadata={"context_length": CONTEXT},
)  # fmt: skip
SLOW = Service(
    api="inference", name="slow", provider="inline::parrot", entry="small_services:open_parrot", config={"pace": 0.02}
)
LETTERS = Service(
    api="embeddings", name="letters", provider="inline::letters", entry="small_services:open_letters",
    metadata={"embedding_dimension": DIMENSIONS},
)  # fmt: skip
SHELF = Service(api="vector_io", name="manuals", provider="inline::shelf", entry="small_services:open_shelf")
HELPER = Service(
    api="agents", name="helper", provider="inline::agent", entry="lsbuild_runtime.agents.service:open_agent",
    config={"model": "org/parrot", "vector_stores": ["manuals"], "passages": 2, "tokens": 64, "wall": 5.0},
    needs=("inference/org/parrot", "vector_io/manuals"),
)  # fmt: skip


def small_manifest(services: Sequence[Service] = (PARROT, SLOW, LETTERS, SHELF, HELPER), **server: Any) -> Manifest:
    """A manifest without files over ``services``."""
    return Manifest(
        schema=SCHEMA, name="small", lsbuild="0.1.0", target="host", platform="linux-x86_64-cp311",
        services=tuple(services), server=Server(**server), files=(),
    )  # fmt: skip
