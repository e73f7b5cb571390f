"""OpenAI's chunking strategies: what a client may ask for, and the sizes a file is cut by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from lsbuild_runtime.mutable import CHUNK
from lsbuild_runtime.routes.wire import refused
from lsbuild_runtime.uploads.attached import Chunking

if TYPE_CHECKING:
    from lsbuild_runtime.manifest import Service
    from lsbuild_runtime.routing import Site


class StaticSizes(Struct, forbid_unknown_fields=True):
    """Sizes in tokens; OpenAI's bounds."""

    max_chunk_size_tokens: Annotated[int, Meta(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0, le=2048)]


class AutoStrategy(Struct, tag_field="type", tag="auto", forbid_unknown_fields=True):
    """The sizes with which the artifact's own documents were cut."""


class StaticStrategy(Struct, tag_field="type", tag="static", forbid_unknown_fields=True):
    """Sizes of the client's own."""

    static: StaticSizes


ChunkingStrategy = AutoStrategy | StaticStrategy


def chunking(app: Site, service: Service, strategy: ChunkingStrategy | None) -> Chunking:
    """The sizes for a file; ApiError 400 when the embedding model cannot read passages as long."""
    if not isinstance(strategy, StaticStrategy):
        return usual(service)
    sizes = strategy.static
    if sizes.chunk_overlap_tokens * 2 > sizes.max_chunk_size_tokens:
        fault = f"{sizes.chunk_overlap_tokens} is more than half of {sizes.max_chunk_size_tokens}"
        raise refused("chunking_strategy.static.chunk_overlap_tokens", fault)
    model = str(service.metadata["embedding_model"])
    embeddings = app.services.find(("embeddings",), model)
    most = embeddings.metadata.get("context_length") if embeddings else None
    if most is not None and sizes.max_chunk_size_tokens > most:
        fault = f"{sizes.max_chunk_size_tokens}, but {model!r} reads at most {most}"
        raise refused("chunking_strategy.static.max_chunk_size_tokens", fault)
    return Chunking(sizes.max_chunk_size_tokens, sizes.chunk_overlap_tokens)


def usual(service: Service) -> Chunking:
    """The sizes of the spec."""
    sizes = service.config[CHUNK]
    return Chunking(int(sizes["tokens"]), int(sizes["overlap"]))


def shown(sizes: Chunking) -> StaticStrategy:
    """Sizes as OpenAI shows them in an answer."""
    return StaticStrategy(StaticSizes(sizes.tokens, sizes.overlap))
