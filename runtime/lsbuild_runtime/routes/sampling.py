"""What chat and text completions share: the sampling parameters, the choice of the model, usage and ids."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from lsbuild_runtime.http import ApiError, Attempt, Context, answered_by, attempts
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Delta, Inference, Sampling, Usage
from lsbuild_runtime.routes.wire import refused
from lsbuild_runtime.services import MODEL_APIS

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

Text = Annotated[str, Meta(min_length=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
LOWEST_LOGPROB = -9999.0
"""What stands for minus infinity on the wire, as at OpenAI."""


class StreamOptions(Struct, forbid_unknown_fields=True):
    """Options of a streamed answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Tunable(Struct, kw_only=True, forbid_unknown_fields=True):
    """The sampling parameters of both completion APIs, with OpenAI's names, ranges and defaults; ``top_k`` is ours."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Text | Annotated[list[Text], Meta(max_length=4)] | None = None
    logit_bias: dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    def sampling(self, max_tokens: int | None, logprobs: int | None, defaults: Mapping[str, Any]) -> Sampling:
        """The port's value; ``defaults`` (of the service) hold where the request says nothing."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            temperature=_first(self.temperature, defaults.get("temperature"), 1.0),
            top_p=_first(self.top_p, defaults.get("top_p"), 1.0),
            top_k=_first(self.top_k, defaults.get("top_k"), 0),
            seed=self.seed,
            stop=stop,
            logit_bias=self.logit_bias or {},
            logprobs=logprobs,
            max_tokens=max_tokens,
            n=self.n or 1,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
        )

    def usage_wanted(self) -> bool:
        """Whether a stream ends with a usage event; ApiError 400 for stream options without a stream."""
        if self.stream_options is None:
            return False
        if not self.stream:
            raise refused("stream_options", "only allowed when stream is true")
        return bool(self.stream_options.include_usage)


_DEFAULT_ACCEPTS = ("chat_template_kwargs",)

CONVERSATION = ("conversation_id", "session_id", "thread_id")
"""Keys of ``metadata`` by which clients name a conversation."""


def affinity(*given: str | None, metadata: Mapping[str, str] | None = None) -> str:
    """What names the request's conversation: the first of ``given``, from the most to the least precise, that is there.

    A conversation named in ``metadata`` goes after the first of them, which is the cache key of the prompt.
    """
    named = [value for key in CONVERSATION if (value := (metadata or {}).get(key))]
    return next((value for value in (*given[:1], *named, *given[1:]) if value), "")


def served(trail: Sequence[Attempt]) -> dict[str, str] | UnsetType:
    """The ``metadata`` of an answer that a route found a model for; unset without one."""
    if not trail:
        return UNSET
    return {"lsbuild_model": answered_by(trail), "lsbuild_attempts": attempts(trail)}


class CachedTokens(Struct):
    """Details of the prompt's tokens."""

    cached_tokens: int


class UsageBody(Struct):
    """Token counts on the wire."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


def usage_body(usage: Usage) -> UsageBody:
    """The wire form of ``usage``."""
    return UsageBody(usage.prompt, usage.completion, usage.prompt + usage.completion, CachedTokens(usage.cached))


def language_model(app: Site, name: str) -> Service:
    """The service behind a model id; ApiError 404 for an unknown one, 400 for one that writes nothing."""
    service = app.services.find(MODEL_APIS, name)
    if service is None:
        raise model_not_found(name)
    if service.api == "embeddings":
        raise refused("model", f"{name!r} is an embedding model; use POST /v1/embeddings")
    if service.api == "rerank":
        raise refused("model", f"{name!r} is a rerank model; use POST /v1/rerank")
    return service


def takes(service: Service, field: str) -> bool:
    """Whether a model's provider honours a field of a chat beyond OpenAI's (``Chat.extra``)."""
    accepted = service.metadata.get("accepts", _DEFAULT_ACCEPTS)
    return "*" in accepted or field in accepted


def model_not_found(name: str) -> ApiError:
    """A 404 in OpenAI's words."""
    return ApiError(
        404,
        f"the model {name[:100]!r} does not exist; GET /v1/models lists them",
        param="model",
        code="model_not_found",
    )


def generate(
    app: Site, service: Service, operation: str, start: Callable[[Inference], Iterator[Delta]], context: Context
) -> Iterator[Delta]:
    """The deltas of ``start(port)`` within a span that gets the token counts; stops when the request is cancelled."""
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": service.name,
        "gen_ai.provider.name": service.provider,
    }
    with context.watch.span(f"{operation} {service.name}", **attributes) as span:
        for delta in start(app.services.get(service.api, service.name)):
            context.check()
            if delta.usage is not None:
                span.set(
                    **{
                        "gen_ai.usage.input_tokens": delta.usage.prompt,
                        "gen_ai.usage.output_tokens": delta.usage.completion,
                    }
                )
            yield delta


def now() -> int:
    """Unix time in seconds."""
    return int(time.time())


def clamp(logprob: float) -> float:
    """A log probability that JSON can carry."""
    return max(logprob, LOWEST_LOGPROB)


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
