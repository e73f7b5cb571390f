"""A schema of a server, and services that are opened on it as by other processes, from this process or from another."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from vec_hashing import Hashing

from lsbuild_plugins.pgvector.serve import open_store, open_stores
from lsbuild_plugins.pgvector.serve.seed import Document, write
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.mutable import MutableVectorIO, StoredFile, VectorStores
from lsbuild_runtime.ports import Passage
from postgres_server import Postgres

DATABASE = "tests"


class Host:
    """A host with one model."""

    def __init__(self, **model: Any) -> None:
        self._model = Hashing(**model)

    def get(self, api: str, name: str) -> Any:
        assert (api, name) == ("embeddings", "embed")
        return self._model

    def state(self, name: str) -> Path:
        raise AssertionError(name)


def service(dsn: str, schema: str, path: str = "", *, mutable: bool = True, **config: Any) -> Service:
    """A store of the spec, as the manifest has it."""
    defaults = {"schema": schema, "index": "hnsw", "language": "english", "connections": 8, "connect_timeout": 5.0,
                "statement_timeout": 20.0, "search": "hybrid", "min_recall": 0.95, "dsn": dsn}  # fmt: skip
    return Service(
        api="vector_io",
        name="manuals",
        provider="remote::pgvector",
        entry="lsbuild_plugins.pgvector.serve:open_store",
        path=path,
        config={**defaults, **config},
        metadata={"embedding_model": "embed", "mutable": mutable},
        needs=("embeddings/embed",),
    )


def opened(dsn: str, schema: str, root: str = ".", path: str = "") -> Any:
    """The store, for a process that was given nothing but text."""
    return open_store(service(dsn, schema, path), Path(root), Host())


class Place:
    """A schema of its own, and a bundle below ``folder``."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self.server = server
        self.root = folder / "bundle"
        self.schema = f"t_{uuid.uuid4().hex}"
        self.dsn = server.dsn(DATABASE)
        self.opened: list[Any] = []

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = psycopg.connect(self.dsn, autocommit=True)
        connection.execute(f'SET search_path = "{self.schema}", public')
        return connection

    def open(self, host: Any = None, *, path: str = "", mutable: bool = True, **config: Any) -> MutableVectorIO:
        made = service(config.pop("dsn", self.dsn), self.schema, path, mutable=mutable, **config)
        store: Any = open_store(made, self.root, host or Host())
        self.opened.append(store)
        return store  # type: ignore[no-any-return]

    def stores(self) -> VectorStores:
        stores: Any = open_stores(service(self.dsn, self.schema), self.root, Host())
        self.opened.append(stores)
        return stores  # type: ignore[no-any-return]

    def seed(self, texts: Mapping[str, str], name: str = "seed") -> str:
        """Write a seed of documents with one passage each; returns its folder in the bundle."""
        folder = self.root / "indexes" / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, "embed", Hashing().dimensions, (compiled(path, text) for path, text in sorted(texts.items())))
        return f"indexes/{name}"

    def close(self) -> None:
        for each in self.opened:
            each._pool.close()


def compiled(path: str, text: str) -> Document:
    """A compiled document of one passage."""
    file, passages, vectors = numbered(f"file-{path}", [text])
    named = StoredFile(
        file_id=file.file_id, filename=path, sha256="", bytes=file.bytes, attributes={"path": path}, passages=1
    )
    return Document(named, passages, b"".join(vectors))


def numbered(file_id: str, texts: list[str]) -> tuple[StoredFile, list[Passage], list[bytes]]:
    """The arguments of ``put`` for a document of these passages."""
    passages = [Passage(f"{file_id}-{n}", text, "", "", n, n + len(text), 1, 1) for n, text in enumerate(texts)]
    document = StoredFile(
        file_id=file_id, filename=file_id, sha256="", bytes=len(texts), passages=len(texts), created_at=1
    )
    return document, passages, [Hashing()._vector(text) for text in texts]
