"""`remote::openai` at run time: passes chats, completions and texts on to another server; it keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsbuild_plugins.openai.serve.answers import (
    ANSWER,
    TEXT_ANSWER,
    VECTORS,
    streamed,
    text_deltas,
    vector_bytes,
    whole,
)
from lsbuild_plugins.openai.serve.upstream import Upstream
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Completion, Delta, Embedded, Host, Sampling


@dataclass(frozen=True, slots=True)
class RemoteInference:
    """Implements ports.Inference over an Upstream."""

    upstream: Upstream

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        upstream = self.upstream
        body = chat_body(chat, upstream.model, upstream.tokens_parameter)
        if chat.stream:
            return streamed(upstream.events("/chat/completions", body, ANSWER, context))
        return whole(upstream.whole("/chat/completions", body, ANSWER, context))

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        body = {
            "model": self.upstream.model,
            "prompt": completion.prompt,
            **sampling_body(completion.sampling, "max_tokens"),
            **_streaming(completion.stream),
        }
        if completion.sampling.logprobs is not None:
            body["logprobs"] = completion.sampling.logprobs
        if completion.echo:
            body["echo"] = True
        if completion.stream:
            return text_deltas(self.upstream.events("/completions", body, TEXT_ANSWER, context))
        return text_deltas(iter([self.upstream.whole("/completions", body, TEXT_ANSWER, context)]))


@dataclass(frozen=True, slots=True)
class RemoteEmbeddings:
    """Implements ports.Embeddings over an Upstream; vectors are what the other side gives, not scaled again."""

    upstream: Upstream

    def embed(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], context: Context, dimensions: int | None = None
    ) -> Embedded:
        """See ports.Embeddings."""
        body: dict[str, Any] = {"model": self.upstream.model, "input": inputs, "encoding_format": "base64"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        answer = self.upstream.whole("/embeddings", body, VECTORS, context)
        try:
            vectors = tuple(vector_bytes(found.embedding) for found in sorted(answer.data, key=lambda one: one.index))
        except ValueError as error:
            raise self.upstream.broken(str(error)) from error
        if len(vectors) != len(inputs):
            raise self.upstream.broken(f"{len(vectors)} vectors for {len(inputs)} inputs")
        return Embedded(vectors, answer.usage.prompt_tokens if answer.usage else 0)


def open_inference(service: Service, root: Path, host: Host) -> RemoteInference:  # noqa: ARG001 - the entry's shape
    """The entry for language models."""
    return RemoteInference(Upstream(service))


def open_embeddings(service: Service, root: Path, host: Host) -> RemoteEmbeddings:  # noqa: ARG001 - the entry's shape
    """The entry for embedding models."""
    return RemoteEmbeddings(Upstream(service))


def chat_body(chat: Chat, model: str, tokens_parameter: str) -> dict[str, Any]:
    """The request of OpenAI's API for ``chat``. Temperature and top_p are always sent: other servers' defaults differ."""
    body: dict[str, Any] = {"model": model, "messages": chat.messages, **sampling_body(chat.sampling, tokens_parameter)}
    if chat.sampling.logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = chat.sampling.logprobs
    if chat.tools:
        body["tools"] = chat.tools
        body["tool_choice"] = _tool_choice(chat.tool_choice)
        if not chat.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if chat.response_format is not None:
        body["response_format"] = chat.response_format
    return {**body, **_streaming(chat.stream), **chat.extra}


def sampling_body(sampling: Sampling, tokens_parameter: str) -> dict[str, Any]:
    """The sampling parameters; those at a default that every server shares are left out."""
    body: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.max_tokens is not None:
        body[tokens_parameter] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.n != 1:
        body["n"] = sampling.n
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.logit_bias:
        body["logit_bias"] = sampling.logit_bias
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    return body


def _streaming(stream: bool) -> dict[str, Any]:
    return {"stream": True, "stream_options": {"include_usage": True}} if stream else {}


def _tool_choice(choice: str) -> Any:
    return choice if choice in ("auto", "none", "required") else {"type": "function", "function": {"name": choice}}
