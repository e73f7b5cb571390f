"""The serve half of `inline::sqlite-vec`; ships in the artifact and needs apsw and sqlite-vec's library file only."""

from __future__ import annotations

from pathlib import Path

from lsbuild_runtime.manifest import Service
from lsbuild_runtime.mutable import VectorStores
from lsbuild_runtime.ports import Host, VectorIO

STATE = "vector_stores"
"""The folder of the server's state that all stores share."""


def open_store(service: Service, root: Path, host: Host) -> VectorIO:
    """Open the index below ``root / service.path``; the embedding model is opened by the first search that needs it.

    With ``metadata`` ``mutable`` it is the base of a store that can be changed. Raises ManifestError when the file is
    missing, damaged, or was built for another model or schema.
    """
    if service.metadata.get("mutable") is True:
        from lsbuild_plugins.sqlite_vec.serve.mutable import open_mutable

        return open_mutable(service, root, lambda: host.state(STATE) / service.name, host)
    from lsbuild_plugins.sqlite_vec.serve.store import Store

    return Store(service, root, host)


def open_stores(service: Service, root: Path, host: Host) -> VectorStores:  # noqa: ARG001 - the signature of an entry
    """The stores that clients created beside the mutable store of the same name; opens no file yet."""
    from lsbuild_plugins.sqlite_vec.serve.created import Created
    from lsbuild_runtime.search import fusion_of

    place = host.state
    mode = service.config.get("search", "hybrid")
    return Created(mode, fusion_of(service), lambda: place(STATE) / f"{service.name}.created", host)
