"""The models around a store's search, `rerank` and `rewrite`: what every plugin of vector stores declares for them; pure."""

from __future__ import annotations

from msgspec.structs import replace

from lsbuild.api import Service
from lsbuild.spec.model import VectorStore


def models_around(spec: VectorStore) -> tuple[tuple[str, str], ...]:
    """What the store refers to, besides its embedding model, as ``Plugin.refers`` has to answer it."""
    return tuple(("models", name) for name in (spec.rerank, spec.rewrite) if name is not None)


def with_models(service: Service, spec: VectorStore) -> Service:
    """The store's service with the names of these models in its config, where `lsbuild_runtime.retrieve` reads them."""
    named = {"rerank": spec.rerank, "rewrite": spec.rewrite}
    apis = {"rerank": "rerank", "rewrite": "inference"}
    used = {key: name for key, name in named.items() if name is not None}
    needs = (*service.needs, *(f"{apis[key]}/{name}" for key, name in used.items()))
    return replace(service, config={**service.config, **used}, needs=needs)
