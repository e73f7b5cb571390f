"""What the tests of the shared store have in common: one real server, a schema for each test, and seeds made by hand."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pg_place import Host, service
from vec_hashing import Hashing

from lsbuild_plugins.pgvector.serve import open_store, open_stores
from lsbuild_plugins.pgvector.serve.seed import Document, write
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.mutable import MutableVectorIO, StoredFile, VectorStores
from postgres_server import Postgres, running

DATABASE = "tests"


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with running() as started:
        with psycopg.connect(started.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        yield started


@pytest.fixture
def place(server: Postgres, tmp_path: Path) -> Iterator[Place]:
    """A schema of its own, with nothing in it."""
    made = Place(server, tmp_path)
    yield made
    made.close()
    with made.connect() as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{made.schema}" CASCADE')


class Place:
    """A schema of the server, and services that are opened on it as by other processes."""

    def __init__(self, server: Postgres, tmp_path: Path) -> None:
        self.server = server
        self.root = tmp_path / "bundle"
        self.schema = f"t_{uuid.uuid4().hex}"
        self.dsn = server.dsn(DATABASE)
        self.opened: list[Any] = []

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = psycopg.connect(self.server.dsn(DATABASE), autocommit=True)
        connection.execute(f'SET search_path = "{self.schema}", public')
        return connection

    def service(self, *, path: str = "", **config: Any) -> Service:
        return service(config.pop("dsn", self.dsn), self.schema, path, **config)

    def open(self, host: Any = None, path: str = "", **config: Any) -> MutableVectorIO:
        store: Any = open_store(self.service(path=path, **config), self.root, host or Host())
        self.opened.append(store)
        return store  # type: ignore[no-any-return]

    def stores(self, **config: Any) -> VectorStores:
        stores: Any = open_stores(self.service(**config), self.root, Host())
        self.opened.append(stores)
        return stores  # type: ignore[no-any-return]

    def seed(self, documents: Sequence[Document], name: str = "seed") -> str:
        """Write a seed; returns the folder in the bundle."""
        folder = self.root / "indexes" / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, "embed", Hashing().dimensions, documents)
        return f"indexes/{name}"

    def close(self) -> None:
        for each in self.opened:
            each._pool.close()


def document(path: str, *given: Any, **attributes: Any) -> Document:
    """A compiled document of what `store_contract.given` made."""
    file, passages, vectors = given
    named = StoredFile(file_id=file.file_id, filename=path, sha256=file.sha256, bytes=file.bytes,
                       attributes=attributes, passages=len(passages))  # fmt: skip
    return Document(named, list(passages), b"".join(vectors))


def seeded(texts: Mapping[str, str]) -> list[Document]:
    """Compiled documents of one passage each."""
    from store_contract import given

    return [document(path, *given(f"file-{path}", text)) for path, text in texts.items()]
