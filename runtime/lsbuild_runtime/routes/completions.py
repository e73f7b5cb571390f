"""POST /v1/completions: text continued without a chat template, in OpenAI's legacy shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from lsbuild_runtime.http import Attempt, Context, Request, Response, json_response, sse_response
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Completion, Delta, FinishReason, TokenLogprob, Usage
from lsbuild_runtime.routes.sampling import (
    TokenId,
    Tunable,
    UsageBody,
    affinity,
    clamp,
    generate,
    language_model,
    now,
    served,
    usage_body,
)
from lsbuild_runtime.routes.wire import decode, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

MOST_PROMPTS = 64
DEFAULT_MAX_TOKENS = 16
"""OpenAI's own default for this API."""


class CompletionRequest(Tunable, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's request. ``prompt`` is a text, texts, token ids, or lists of token ids; ``suffix`` is refused."""

    model: str
    prompt: str | list[str | int | list[TokenId]]
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | bool | None = None
    echo: bool | None = None
    best_of: Annotated[int, Meta(ge=1)] | None = None
    suffix: str | None = None


class LegacyLogprobs(Struct):
    """Four parallel lists, one entry for each token; a first prompt token has no probability (null)."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class TextChoice(Struct):
    """One continuation, or in a stream a piece of it."""

    text: str
    index: int
    logprobs: LegacyLogprobs | None
    finish_reason: FinishReason | None


class CompletionBody(Struct):
    """The answer, or one event of it; in a stream only the last event carries usage, and only if it was asked for."""

    id: str
    object: str
    created: int
    model: str
    choices: list[TextChoice]
    system_fingerprint: str
    usage: UsageBody | UnsetType | None = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


_DECODER = msgspec.json.Decoder(CompletionRequest)


def create(app: Site, request: Request, _: str) -> Response:
    """Continue each prompt ``n`` times; choices are numbered prompt by prompt."""
    wanted = decode(request, _DECODER)
    service = language_model(app, wanted.model)
    if service.api == "agents":
        raise refused("model", f"{wanted.model!r} is an agent; use POST /v1/chat/completions")
    with_usage = wanted.usage_wanted()
    completions = completions_of(wanted, service)
    context = request.context
    context.affinity = affinity(wanted.user)
    deltas = continued(app, service, completions, context)
    fingerprint = f"lsbuild-{app.manifest.lsbuild}"
    head = CompletionBody(new_id("cmpl-"), "text_completion", now(), wanted.model, [], fingerprint)
    if wanted.stream:
        return sse_response(events(deltas, head, with_usage, context.trail))
    body = whole(deltas, head)
    body.metadata = served(context.trail)
    return json_response(body)


def completions_of(wanted: CompletionRequest, service: Service) -> list[Completion]:
    """The port's values, one for each prompt; ApiError 400 for what is not honoured."""
    if wanted.suffix:
        raise refused("suffix", "inserting before a suffix is not supported")
    if wanted.best_of is not None and wanted.best_of != (wanted.n or 1):
        raise refused("best_of", "only best_of equal to n is supported")
    if wanted.max_tokens == 0 and not wanted.echo:
        raise refused("max_tokens", "0 is only allowed with echo")
    logprobs = wanted.logprobs
    if isinstance(logprobs, bool):  # Llama Stack documents a boolean
        logprobs = 1 if logprobs else None
    max_tokens = DEFAULT_MAX_TOKENS if wanted.max_tokens is None else wanted.max_tokens
    sampling = wanted.sampling(max_tokens, logprobs, service.metadata.get("sampling", {}))
    return [
        Completion(prompt, sampling, echo=bool(wanted.echo), stream=bool(wanted.stream))
        for prompt in prompts_of(wanted.prompt)
    ]


def prompts_of(prompt: str | Sequence[str | int | list[int]]) -> list[str | list[int]]:
    """The prompts: a list of integers is one prompt of tokens; ApiError 400 for mixed or empty lists."""
    if isinstance(prompt, str):
        return [prompt]
    texts = [item for item in prompt if isinstance(item, str)]
    tokens = [item for item in prompt if isinstance(item, int)]
    lists = [item for item in prompt if isinstance(item, list)]
    if not prompt or len(prompt) not in (len(texts), len(tokens), len(lists)) or not all(lists):
        raise refused("prompt", "expected a text, texts, token ids, or non-empty lists of token ids; not mixed")
    if any(token < 0 or token >= 2**31 for token in tokens):
        raise refused("prompt", "token ids lie between 0 and 2147483647")
    if not tokens and len(prompt) > MOST_PROMPTS:
        raise refused("prompt", f"{len(prompt)} prompts; at most {MOST_PROMPTS}")
    return [tokens] if tokens else [*texts, *lists]


def continued(app: Site, service: Service, completions: list[Completion], context: Context) -> Iterator[Delta]:
    """The deltas of all prompts, one prompt after the other, indexed as in the answer; the last one has the usage."""
    total = Usage()
    for number, completion in enumerate(completions):
        shift = number * completion.sampling.n
        for delta in _one(app, service, completion, context):
            if delta.usage is not None:
                total += delta.usage
            yield Delta(delta.index + shift, delta.text, logprobs=delta.logprobs, finish=delta.finish)
    yield Delta(usage=total)


def _one(app: Site, service: Service, completion: Completion, context: Context) -> Iterator[Delta]:
    return generate(app, service, "text_completion", lambda port: port.complete(completion, context), context)


def whole(deltas: Iterator[Delta], head: CompletionBody) -> CompletionBody:
    """All deltas as one answer."""
    texts: dict[int, list[str]] = {}
    tokens: dict[int, list[TokenLogprob]] = {}
    finished: dict[int, FinishReason] = {}
    for delta in deltas:
        if delta.usage is not None:
            head.usage = usage_body(delta.usage)
            continue
        texts.setdefault(delta.index, []).append(delta.text)
        tokens.setdefault(delta.index, []).extend(delta.logprobs)
        if delta.finish is not None:
            finished[delta.index] = delta.finish
    head.choices = [
        TextChoice("".join(texts[index]), index, legacy(tokens[index], 0), finished.get(index, "stop"))
        for index in sorted(texts)
    ]
    return head


def events(
    deltas: Iterator[Delta], head: CompletionBody, with_usage: bool, trail: Sequence[Attempt] = ()
) -> Iterator[CompletionBody]:
    """One event for each delta, and a last one with the usage if it was asked for; the first has the metadata."""
    offsets: dict[int, int] = {}
    begun = False
    if with_usage:
        head.usage = None
    for delta in deltas:
        if delta.usage is not None:
            if with_usage:
                yield msgspec.structs.replace(head, usage=usage_body(delta.usage))
            continue
        offset = offsets.get(delta.index, 0)
        offsets[delta.index] = offset + sum(len(token.token) for token in delta.logprobs)
        choice = TextChoice(delta.text, delta.index, legacy(delta.logprobs, offset), delta.finish)
        yield msgspec.structs.replace(head, choices=[choice], metadata=UNSET if begun else served(trail))
        begun = True


def legacy(tokens: Sequence[TokenLogprob], offset: int) -> LegacyLogprobs | None:
    """The four lists; ``offset`` is where the first token stands in the text. None without tokens."""
    if not tokens:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return LegacyLogprobs(
        text_offset=offsets,
        token_logprobs=[None if math.isnan(token.logprob) else clamp(token.logprob) for token in tokens],
        tokens=[token.token for token in tokens],
        top_logprobs=[
            None if math.isnan(token.logprob) else {other.token: clamp(other.logprob) for other in token.top}
            for token in tokens
        ],
    )
