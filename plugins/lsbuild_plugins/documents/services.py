"""What the services of every store carry: how it searches, and what uploads need where it is mutable; pure."""

from __future__ import annotations

import msgspec

from lsbuild.api import Given, Item, Json, Service
from lsbuild.spec.model import VectorStore
from lsbuild_plugins.documents.steps import embedding, spec_of
from lsbuild_runtime.mutable import CHUNK, TOKENIZER


def search_config(spec: VectorStore) -> dict[str, Json]:
    """The settings that `lsbuild_runtime.search` and every serve half read."""
    return {"search": spec.search, "fusion": spec.fusion.model_dump()}


def mutable_services(store: Service, item: Item, given: Given) -> tuple[Service, Service]:
    """The store as one that can be changed, and beside it the stores that clients create, opened by ``open_stores``."""
    chunk = spec_of(item).chunk
    uploads = {
        CHUNK: {"tokens": chunk.tokens, "overlap": chunk.overlap},
        TOKENIZER: f"{embedding(item, given).service.path}/tokenizer.json",
    }
    changed = msgspec.structs.replace(
        store, config={**store.config, **uploads}, metadata={**store.metadata, "mutable": True}
    )
    created = msgspec.structs.replace(
        changed,
        api="vector_stores",
        entry=f"{store.entry.partition(':')[0]}:open_stores",
        path="",
        metadata=store.metadata,
    )
    return changed, created
