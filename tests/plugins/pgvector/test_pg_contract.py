"""The shared store keeps the contract that every mutable provider keeps, against a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from store_contract import MutableStoreContract, VectorStoresContract

from lsbuild_runtime.mutable import VectorStores


class TestPgvector(MutableStoreContract):
    """`remote::pgvector` without compiled documents."""

    @pytest.fixture
    def place(self, place: Any) -> Any:
        return place


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
