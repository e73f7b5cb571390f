"""The shared store keeps the contract that every mutable provider keeps, against a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pg_compiler import PgCompiler
from store_contract import COMPILED, CompiledContract, MutableStoreContract, VectorStoresContract

from lsbuild_runtime.mutable import MutableVectorIO, VectorStores


class TestPgvector(MutableStoreContract):
    """`remote::pgvector` without compiled documents."""

    @pytest.fixture
    def place(self, place: Any) -> Any:
        return place


class TestCompiled(CompiledContract):
    """With documents that the real steps compiled."""

    @pytest.fixture
    def place(self, place: Any, tmp_path: Path) -> Any:
        (place.root / "indexes").mkdir(parents=True)
        (place.root / "indexes/manuals").symlink_to(PgCompiler(tmp_path).build(COMPILED, mutable=True))
        return Shelf(place)


class Shelf:
    """Opens the store with its seed."""

    def __init__(self, place: Any) -> None:
        self._place = place

    def open(self) -> MutableVectorIO:
        store: MutableVectorIO = self._place.open(path="indexes/manuals")
        return store


class TestClientStores(VectorStoresContract):
    """The stores that clients create."""

    @pytest.fixture
    def shelves(self, place: Any) -> Any:
        return Shelves(place)


class Shelves:
    """Opens the service as another process would."""

    def __init__(self, place: Any) -> None:
        self._place = place

    def open(self) -> VectorStores:
        stores: VectorStores = self._place.stores()
        return stores
