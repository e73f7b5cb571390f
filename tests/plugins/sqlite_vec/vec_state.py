"""What the tests of writable stores share: a host that keeps state in a folder, and stores opened as a process would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vec_hashing import Hashing

from lsbuild_plugins.sqlite_vec.serve import open_store, open_stores
from lsbuild_plugins.sqlite_vec.serve.mutable import Kind, Mutable
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.mutable import MutableVectorIO, VectorStores
from lsbuild_runtime.ports import Fusion

DIMENSIONS = 96
KIND = Kind("manuals", "hybrid", Fusion(), "embed", DIMENSIONS)


class StateHost:
    """A host with the model ``embed`` and a folder for state; None: it keeps none."""

    def __init__(self, folder: Path | None, **hashing: Any) -> None:
        self.folder = folder
        self.model = Hashing(**hashing)

    def get(self, api: str, name: str) -> Any:
        assert (api, name) == ("embeddings", "embed")
        return self.model

    def state(self, name: str) -> Path:
        if self.folder is None:
            raise ApiError(503, "this server keeps no state", type="server_error", code="service_unavailable")
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        return self.folder / name


class Bare:
    """The place of a store without compiled documents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "vector_stores/manuals"
        self.host = StateHost(folder)

    def open(self) -> Mutable:
        return Mutable(KIND, None, lambda: self.folder, self.host)


def service(**changes: Any) -> Service:
    values: dict[str, Any] = {
        "api": "vector_io",
        "name": "manuals",
        "provider": "inline::sqlite-vec",
        "entry": "lsbuild_plugins.sqlite_vec.serve:open_store",
        "path": "indexes/manuals",
        "metadata": {"mutable": True},
        "needs": ("embeddings/embed",),
        **changes,
    }
    return Service(**values)


class Based:
    """The place of a store above a compiled index."""

    def __init__(self, root: Path, folder: Path | None, **hashing: Any) -> None:
        self.root = root
        self.host = StateHost(folder, **hashing)

    def open(self) -> MutableVectorIO:
        store = open_store(service(), self.root, self.host)
        assert isinstance(store, Mutable)
        return store


class Shelves:
    """The place of stores that clients create."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.host = StateHost(folder)

    def open(self) -> VectorStores:
        return open_stores(service(api="vector_stores", path=""), Path("/nonexistent"), self.host)
