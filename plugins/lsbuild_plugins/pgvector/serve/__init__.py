"""The serve half of `remote::pgvector`; opening a service reaches no network, the first question does."""

from __future__ import annotations

from pathlib import Path

from lsbuild_runtime.manifest import Service
from lsbuild_runtime.mutable import VectorStores
from lsbuild_runtime.ports import Host, VectorIO


def open_store(service: Service, root: Path, host: Host) -> VectorIO:
    """A store of the spec: a MutableVectorIO when its config says ``mutable``. ManifestError for a damaged seed."""
    from lsbuild_plugins.pgvector.serve.service import open_store as opened

    return opened(service, root, host)


def open_stores(service: Service, root: Path, host: Host) -> VectorStores:  # noqa: ARG001 - the entry's shape
    """The stores that clients create in the same database."""
    from lsbuild_plugins.pgvector.serve.stores import Stores

    return Stores(service, host)
