"""`inline::route` for the builder: checks a list of models or shields, declares the service; routing is the runtime's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Compiled, Given, Item, Plugin, Problem, Service, config_problems
from lsbuild.spec.model import Candidate, Model, Shield, ShieldCandidate
from lsbuild.spec.units import Seconds

USUAL: tuple[str, ...] = Candidate.model_fields["on"].default
_NEEDS_WEIGHTS = ("source", "quantize")


class Breaker(BaseModel):
    """When a candidate that keeps failing is left alone: it *opens*."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ratio: float = Field(default=0.5, gt=0, le=1)
    """Share of failed requests that opens it."""
    window: Seconds = Field(default=30.0, gt=0)
    """Time over which requests are counted."""
    calls: int = Field(default=5, ge=1)
    """Requests within that time below which it stays closed."""
    open: Seconds = Field(default=15.0, gt=0)
    """How long the candidate is left alone; then one request tries it."""


class ShieldConfig(BaseModel):
    """Settings of a route of shields under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    sticky: bool = True
    """Whether the requests of one conversation go to the same of several weighted candidates."""
    breaker: Breaker = Breaker()
    """When a candidate that keeps failing is left alone."""


class Config(ShieldConfig):
    """Settings of a route of models under ``config``."""

    hedge: Seconds | None = Field(default=None, gt=0)
    """Start the next candidate too when no first token came for so long; the first to speak answers."""


class RoutePlugin(Plugin):
    """The compile half of `inline::route`."""

    provider = "inline::route"
    kinds = ("models", "shields")

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config`` and in the list, and keys that a route has no use for."""
        if item.kind == "shields":
            yield from _shield_faults(cast("Shield", item.spec))
            return
        spec = _spec(item)
        yield from config_problems(Config, spec.config)
        if spec.type == "rerank":
            yield Problem(("type",), "a route serves llm and embedding models; name a rerank model itself")
        for key in _NEEDS_WEIGHTS:
            if getattr(spec, key) is not None:
                yield Problem((key,), f"'{key}' is for models with weights; a route has those of its candidates")
        if not spec.route:
            yield Problem((), "missing key 'route': list the models that inline::route may ask")
            return
        yield from _candidates(spec.route, "model")
        if spec.type == "embedding":
            yield from _same(spec.route)
        else:
            yield from (
                Problem(("route", index, "same_as"), "is for embedding models only")
                for index, each in enumerate(spec.route)
                if each.same_as is not None
            )

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:
        """Its candidates."""
        if item.kind == "shields":
            return tuple(("shields", candidate.shield) for candidate in cast("Shield", item.spec).route)
        return tuple(("models", candidate.model) for candidate in _spec(item).route)

    def compile(self, item: Item, given: Given) -> Compiled:
        """One service, which needs those of its candidates."""
        return Compiled(services=(_shield(item, given) if item.kind == "shields" else _service(item),))


PLUGIN = RoutePlugin()


def _spec(item: Item) -> Model:
    return cast("Model", item.spec)


def _shield_faults(spec: Shield) -> Iterator[Problem]:
    yield from config_problems(ShieldConfig, spec.config)
    for key in (*_NEEDS_WEIGHTS, "model"):
        if getattr(spec, key) is not None:
            yield Problem((key,), f"'{key}' is not for a route; its candidates have their own")
    if not spec.route:
        yield Problem((), "missing key 'route': list the shields that inline::route may ask")
        return
    yield from _candidates(spec.route, "shield")


def _candidates(route: Sequence[Candidate | ShieldCandidate], key: Literal["model", "shield"]) -> Iterator[Problem]:
    names = [getattr(candidate, key) for candidate in route]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(("route", index, key), f"'{name}' is in the list twice; use retries to ask it again")
    for index, candidate in enumerate(route):
        if not candidate.on:
            yield Problem(("route", index, "on"), "the list is empty: nothing would lead to this candidate")
    if route[0].on != USUAL and not (len(route) > 1 and route[0].weight and route[1].weight):
        yield Problem(("route", 0, "on"), "nobody comes before the first candidate; leave it out")


def _same(route: tuple[Candidate, ...]) -> Iterator[Problem]:
    """Vectors of different models cannot be compared, so that has to be said of each stand-in by name."""
    first = route[0].model
    if route[0].same_as is not None:
        yield Problem(("route", 0, "same_as"), "is for the candidates after the first")
    for index, candidate in enumerate(route[1:], 1):
        if candidate.same_as != first:
            yield Problem(
                ("route", index, "same_as"),
                f"vectors of different models cannot be compared; if '{candidate.model}' is the very model that "
                f"'{first}' is, served elsewhere, say same_as: {first}",
            )


def _service(item: Item) -> Service:
    spec = _spec(item)
    embeds = spec.type == "embedding"
    api = "embeddings" if embeds else "inference"
    route = spec.route
    metadata: dict[str, Any] = {"model_type": spec.type, "route": [candidate.model for candidate in route]}
    if spec.context is not None:
        metadata["context_length"] = spec.context
    if spec.dimensions is not None:
        metadata["embedding_dimension"] = spec.dimensions
    config = Config.model_validate(spec.config).model_dump(exclude_none=True, exclude_defaults=True)
    return Service(
        api=api,
        name=item.name,
        provider="inline::route",
        entry=f"lsbuild_runtime.federation.route:open_{api}",
        config={"candidates": [_settings(candidate) for candidate in route], **config},
        metadata=metadata,
        needs=tuple(f"{api}/{candidate.model}" for candidate in route),
    )


def _shield(item: Item, given: Given) -> Service:
    """A route of shields costs what its dearest candidate does."""
    spec = cast("Shield", item.spec)
    config = ShieldConfig.model_validate(spec.config).model_dump(exclude_none=True, exclude_defaults=True)
    names = [candidate.shield for candidate in spec.route]
    costs = [int(each.metadata.get("cost", 0)) for name in names for each in given.peers["shields", name].services]
    return Service(
        api="safety",
        name=item.name,
        provider="inline::route",
        entry="lsbuild_runtime.federation.shield_route:open_safety",
        config={"candidates": [_settings(candidate) for candidate in spec.route], **config},
        metadata={"cost": max(costs, default=0), "route": names},
        needs=tuple(f"safety/{name}" for name in names),
    )


def _settings(candidate: Candidate | ShieldCandidate) -> dict[str, Any]:
    """The candidate for the runtime, whose defaults are left out."""
    name = candidate.model if isinstance(candidate, Candidate) else candidate.shield
    settings = candidate.model_dump(exclude_none=True, exclude_defaults=True, exclude={"same_as", "shield"})
    if "on" in settings:
        settings["on"] = list(candidate.on)
    return {**settings, "model": name}
