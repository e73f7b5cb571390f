"""The serve half of `inline::sqlite-vec`; ships in the artifact and needs apsw and sqlite-vec's library file only."""

from __future__ import annotations

from pathlib import Path

from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host, VectorIO


def open_store(service: Service, root: Path, host: Host) -> VectorIO:
    """Open the index below ``root / service.path``; the embedding model is opened by the first search that needs it.

    Raises ManifestError when the file is missing, damaged, or was built for another model or schema.
    """
    from lsbuild_plugins.sqlite_vec.serve.store import Store

    return Store(service, root, host)
