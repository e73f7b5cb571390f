"""Opens a store from another process, for tests that kill it or race with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vec_hashing import Hashing

from lsbuild_plugins.pgvector.serve import open_store
from lsbuild_runtime.manifest import Service


class Host:
    """A host with one model."""

    def get(self, *_: str) -> Any:
        return Hashing()

    def state(self, name: str) -> Path:
        raise AssertionError(name)


def service(dsn: str, schema: str, path: str = "", **config: Any) -> Service:
    """A store of the spec, as the manifest has it."""
    defaults = {"schema": schema, "index": "hnsw", "ef_search": 100, "language": "english", "connections": 8,
                "connect_timeout": 5.0, "statement_timeout": 20.0, "search": "hybrid", "dsn": dsn}  # fmt: skip
    return Service(
        api="vector_io",
        name="manuals",
        provider="remote::pgvector",
        entry="lsbuild_plugins.pgvector.serve:open_store",
        path=path,
        config={**defaults, **config},
        metadata={"embedding_model": "embed", "mutable": True},
        needs=("embeddings/embed",),
    )


def opened(dsn: str, schema: str, root: str = ".", path: str = "") -> Any:
    """The store."""
    return open_store(service(dsn, schema, path), Path(root), Host())
