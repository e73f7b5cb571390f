"""The types of shields in a spec."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from lsbuild.spec.models import Budget
from lsbuild.spec.section import Section, with_route
from lsbuild.spec.units import Seconds


class ShieldCandidate(Section):
    """One shield that a route of shields may ask."""

    shield: str
    """The shield (a key of ``shields``), which may be a route too."""
    on: tuple[Literal["error", "timeout", "overload", "context_length", "cost"], ...] = ("error", "timeout", "overload")
    """Which failures of the candidates before it lead to this one."""
    weight: float | None = Field(default=None, gt=0)
    """Its share of the requests among the neighbours that have a weight too; without one the order of the list holds."""
    timeout: Seconds | None = Field(default=None, gt=0)
    """Longest wait for its verdict. Default: as long as the request may last."""
    retries: int = Field(default=0, ge=0, le=10)
    """How often it is asked again after an error or an overload, with growing random pauses."""
    budget: Budget = Budget()
    """What it may cost at most; tokens are reckoned, four characters each."""


class Shield(Section):
    """What looks at texts before they go in or out, served under its key in ``shields``."""

    provider: str = "inline::rules"
    """Who looks: ``inline::rules`` compiles packs of rules into the artifact, ``inline::onnx`` a classifier,
    ``inline::llm-judge`` asks a language model, ``remote::openai`` another server's moderations, ``inline::route`` (the
    default with ``route``) other shields."""
    source: str | None = None
    """Where the weights of a classifier come from, as of a model."""
    quantize: Literal["int4", "int8", "int8-fast", "none"] | None = None
    """Weight format of a classifier. Default: ``int8``."""
    model: str | None = None
    """The model that judges (a key of ``models`` with ``type: llm``), for ``inline::llm-judge``."""
    route: tuple[ShieldCandidate, ...] = ()
    """Shields that stand in for each other under this name, the preferred first."""
    fail: Literal["closed", "open"] = "closed"
    """What becomes of a text that it cannot look at: ``closed`` ends the request with status 503, ``open`` lets it through."""
    config: dict[str, Any] = {}
    """Settings of the provider: ``packs`` of rules and ``actions`` by category, ``labels`` of a classifier."""

    @model_validator(mode="after")
    def _routed(self) -> Shield:
        return with_route(self)
