"""What several models that stand in for each other have in common; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import msgspec

from lsbuild.api import Json, Problem, Service
from lsbuild.errors import SpecError

_EQUAL = ("embedding_dimension", "sampling")
_ALL = "*"


def with_common(service: Service, models: Sequence[Mapping[str, Json]]) -> Service:
    """``service`` with what holds of every one of ``models`` (their metadata, as clients see it); its own values win.

    The context is the shortest, request fields and modalities are those that all take. SpecError for embedding models
    whose vectors have different lengths: they are not the same model.
    """
    widths = {model["embedding_dimension"] for model in models if "embedding_dimension" in model}
    widths |= {service.metadata["embedding_dimension"]} if "embedding_dimension" in service.metadata else set()
    if len(widths) > 1:
        lengths = " and ".join(str(width) for width in sorted(widths))
        raise SpecError(
            [Problem(("models", service.name, "route"), f"these are different models: vectors of {lengths} numbers")]
        )
    return msgspec.structs.replace(service, metadata={**common(models), **service.metadata})


def common(models: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """What all of ``models`` can do; what one of them does not say is not promised."""
    found: dict[str, Json] = {}
    if all("context_length" in model for model in models):
        found["context_length"] = min(model["context_length"] for model in models)
    if any(model.get("chat") is False for model in models):
        found["chat"] = False
    for name in ("accepts", "modalities"):
        if all(name in model for model in models):
            found[name] = reduce(_both, (model[name] for model in models))
    for name in _EQUAL:
        values = [model.get(name) for model in models]
        if values[0] is not None and all(value == values[0] for value in values):
            found[name] = values[0]
    return found


def _both(one: Iterable[str], other: Iterable[str]) -> list[str]:
    if _ALL in one:
        return list(other)
    return list(one) if _ALL in other else [name for name in one if name in other]
