"""Compile with the real steps, then ask the serve half."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from search_contract import DOCS, Reopen, SearchContract

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import ManifestError
from lsbuild_runtime.ports import VectorIO


@pytest.fixture
def store(compiler: Any) -> VectorIO:
    opened: VectorIO = compiler.open(compiler.build(DOCS))
    return opened


class TestSearch(SearchContract):
    @pytest.fixture
    def reopen(self, compiler: Any) -> Reopen:
        return partial(compiler.open, compiler.build(DOCS))


class TestSearchWithoutStopWords(SearchContract):
    @pytest.fixture
    def reopen(self, compiler: Any) -> Reopen:
        return partial(compiler.open, compiler.build(DOCS, config={"stop_words": "prune"}))


@pytest.mark.parametrize(
    ("filters", "param"),
    [
        ({"type": "like", "key": "a", "value": "b"}, "filters.type"),
        ({"key": "a", "value": "b"}, "filters.type"),
        ({"type": "eq", "value": "b"}, "filters.key"),
        ({"type": "eq", "key": "", "value": "b"}, "filters.key"),
        ({"type": "eq", "key": "a"}, "filters.value"),
        ({"type": "eq", "key": "a", "value": None}, "filters.value"),
        ({"type": "eq", "key": "a", "value": [1]}, "filters.value"),
        ({"type": "eq", "key": "a", "value": 2**64}, "filters.value"),
        ({"type": "in", "key": "a", "value": "b"}, "filters.value"),
        ({"type": "nin", "key": "a", "value": ["b", {}]}, "filters.value[1]"),
        ({"type": "eq", "key": "a", "value": 1, "fuzzy": True}, "filters.fuzzy"),
        ({"type": "and", "filters": []}, "filters.filters"),
        ({"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}, 5]}, "filters.filters[1]"),
        ({"type": "and", "filters": [{"type": "eq", "key": "a", "value": 1}] * 200}, "filters.filters[99]"),
    ],
)
def test_faulty_filters_name_the_field(store: VectorIO, filters: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as error:
        store.search("pump", Context(), filters=filters)
    assert (error.value.status, error.value.param) == (400, param)


def test_filters_nested_too_deep_are_refused(store: VectorIO) -> None:
    filters: dict[str, Any] = {"type": "eq", "key": "a", "value": 1}
    for _ in range(5000):
        filters = {"type": "and", "filters": [filters]}
    with pytest.raises(ApiError, match="nested at most 8 deep"):
        store.search("pump", Context(), filters=filters)


def test_a_filter_is_applied_before_the_limit(compiler: Any) -> None:
    """The one allowed passage is the worst of a hundred, in every ranking."""
    docs = {f"{n}.txt": "the pump the pump" for n in range(100)} | {
        "other.txt": "a very long text without it, but pump"
    }
    store = compiler.open(compiler.build(docs))
    filters = {"type": "eq", "key": "filename", "value": "other.txt"}
    for mode in ("vector", "keyword", "hybrid"):
        (hit,) = store.search("the pump", Context(), mode=mode, limit=1, filters=filters)
        assert hit.filename == "other.txt"


class Other:
    def __init__(self, model: Any) -> None:
        self.model = model

    def get(self, *_: str) -> Any:
        return self.model


def test_an_index_of_another_model_does_not_open(compiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = compiler.build(DOCS)
    with pytest.raises(ManifestError, match="was built with 'embed'"):
        open_as(root, needs=("embeddings/other",))


def open_as(root: Path, needs: tuple[str, ...] = ("embeddings/embed",)) -> VectorIO:
    from lsbuild_plugins.sqlite_vec.serve import open_store
    from lsbuild_runtime.manifest import Service

    service = Service(api="vector_io", name="m", provider="p", entry="e", path="indexes/manuals", needs=needs)
    return open_store(service, root, Other(None))


@pytest.mark.parametrize("keep", [0, 99, 100, 4096, 40960, -1])
def test_a_truncated_index_does_not_open(compiler: Any, tmp_path: Path, keep: int) -> None:
    data = (compiler.build(DOCS) / "indexes/manuals/index.db").read_bytes()
    place = tmp_path / "cut/indexes/manuals/index.db"
    place.parent.mkdir(parents=True)
    place.write_bytes(data[:keep])
    with pytest.raises(ManifestError, match=r"index\.db.*build the artifact again"):
        open_as(tmp_path / "cut")


def test_a_missing_index_another_schema_and_another_database_do_not_open(compiler: Any, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        open_as(tmp_path)
    data = bytearray((compiler.build(DOCS) / "indexes/manuals/index.db").read_bytes())
    place = tmp_path / "new/indexes/manuals/index.db"
    place.parent.mkdir(parents=True)
    data[63] = 9  # the low byte of user_version
    place.write_bytes(data)
    with pytest.raises(ManifestError, match="schema 9, this runtime reads 3"):
        open_as(tmp_path / "new")


def test_damage_in_any_page_is_a_clear_error_or_no_harm(compiler: Any, tmp_path: Path) -> None:
    """Sizes and header are right, so the file opens; each page in turn holds garbage."""
    data = (compiler.build(DOCS, config={"vectors": "int8"}) / "indexes/manuals/index.db").read_bytes()
    place = tmp_path / "bad/indexes/manuals/index.db"
    place.parent.mkdir(parents=True)
    refused = 0
    for page in range(1, len(data) // 4096):
        place.write_bytes(data[: page * 4096] + b"\xa5" * 4096 + data[(page + 1) * 4096 :])
        try:
            store = compiler.open(tmp_path / "bad")
            for mode in ("vector", "keyword", "hybrid"):
                store.search("reset the pump", Context(), mode=mode)
        except ManifestError as error:
            assert "damaged" in str(error)
            refused += 1
        except ApiError as error:
            assert (error.status, error.code) == (503, "index_damaged")
            refused += 1
    assert refused > 5


def test_eight_threads_get_what_one_gets(store: VectorIO) -> None:
    queries = ["reset button", "warranty years", "rinse filter", "close valve", "pump", "water"] * 20
    alone = [store.search(query, Context()) for query in queries]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda query: store.search(query, Context()), queries))
    assert together == alone


def test_the_serve_half_imports_neither_numpy_nor_the_builder(compiler: Any) -> None:
    """In a fresh process, with the same path as this one."""
    root = compiler.build(DOCS)
    code = (
        "import sys; from pathlib import Path; from lsbuild_plugins.sqlite_vec.serve import open_store\n"
        "from lsbuild_runtime.manifest import Service; from lsbuild_runtime.http import Context\n"
        "s = Service(api='vector_io', name='m', provider='p', entry='e', path='indexes/manuals', needs=('embeddings/embed',))\n"
        "store = open_store(s, Path(sys.argv[1]), None)\n"
        "assert store.search('warranty', Context(), mode='keyword')\n"
        "print(*sorted({'numpy', 'sqlite_vec', 'sqlite3', 'pydantic', 'lsbuild', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
