"""The contract of writable stores, and what is this provider's own: layers, generations, new builds below old state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from store_contract import COMPILED, CompiledContract, MutableStoreContract, Place, Stores, VectorStoresContract
from vec_state import Bare, Based, Shelves


class TestWithoutBase(MutableStoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Bare(tmp_path)


class TestAboveAnIndex(CompiledContract):
    @pytest.fixture(params=["float32", "int8"])
    def place(self, tmp_path: Path, compiler: Any, request: pytest.FixtureRequest) -> Place:
        return Based(compiler.build(COMPILED, config={"vectors": request.param}), tmp_path / "state")


class TestCreated(VectorStoresContract):
    @pytest.fixture
    def shelves(self, tmp_path: Path) -> Stores:
        return Shelves(tmp_path)
