"""Compile with the real steps, then ask the serve half."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import ManifestError
from lsbuild_runtime.ports import VectorIO

PUMP = """\
# Pump

Intro about the pump.

## Reset

Hold the red button for ten seconds.

## Warranty

The warranty lasts two years.
"""
FILTER = """\
---
product: F2
year: 2024
weight: 1.5
sold: true
---
# Filter

Rinse the filter with cold water every month.
"""
VALVE = """\
---
product: V1
year: 2020
sold: false
---
# Valve

Turn the valve to the left to close the water.
"""
DOCS = {"docs/pump.md": PUMP, "docs/filter.md": FILTER, "docs/valve.md": VALVE, "docs/empty.md": ""}


@pytest.fixture
def store(compiler: Any) -> VectorIO:
    opened: VectorIO = compiler.open(compiler.build(DOCS))
    return opened


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
def test_a_question_finds_its_passage(store: VectorIO, mode: Any) -> None:
    best, *_ = store.search("How do I reset it? Hold which button?", Context(), mode=mode)
    assert best.text == "Hold the red button for ten seconds."
    assert best.heading == "Pump > Reset"
    assert best.filename == "docs/pump.md"
    assert PUMP[best.start : best.end] == best.text
    assert (best.line_start, best.line_end) == (7, 7)
    assert 0 < best.score <= 1


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
def test_scores_fall_and_limit_and_threshold_hold(store: VectorIO, mode: Any) -> None:
    everything = store.search("close the water of the pump", Context(), mode=mode)
    scores = [hit.score for hit in everything]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert store.search("close the water of the pump", Context(), mode=mode, limit=2) == everything[:2]
    above = store.search("close the water of the pump", Context(), mode=mode, threshold=scores[1])
    assert above == [hit for hit in everything if hit.score >= scores[1]]


def test_the_same_text_has_the_vector_score_one(store: VectorIO) -> None:
    best, *_ = store.search("Pump > Warranty\nThe warranty lasts two years.", Context(), mode="vector")
    assert best.score == pytest.approx(1.0, abs=1e-6)


def test_keyword_score_is_the_share_of_what_was_asked(store: VectorIO) -> None:
    (whole,) = store.search("warranty", Context(), mode="keyword")
    (half,) = store.search("warranty zeppelin", Context(), mode="keyword")
    assert half.text == whole.text
    assert half.score < whole.score / 2


def test_words_are_stemmed_and_stop_words_do_not_match(store: VectorIO) -> None:
    assert [hit.heading for hit in store.search("RINSING filters", Context(), mode="keyword")] == ["Filter"]
    assert store.search("how do I this", Context(), mode="keyword") == []
    assert store.search("zeppelin", Context(), mode="keyword") == []


def test_keyword_search_needs_no_model(compiler: Any) -> None:
    class Nobody:
        def get(self, *_: str) -> Any:
            raise AssertionError

    store = compiler.open(compiler.build(DOCS), Nobody(), search="keyword")
    assert store.search("warranty", Context())[0].heading == "Pump > Warranty"


def test_attributes_come_with_their_types(store: VectorIO) -> None:
    best, *_ = store.search("rinse the filter", Context())
    assert best.attributes == {"product": "F2", "sold": True, "weight": 1.5, "year": 2024}
    assert type(best.attributes["sold"]) is bool


ALL = {"Pump", "Pump > Reset", "Pump > Warranty", "Filter", "Valve"}
PUMPS = {"Pump", "Pump > Reset", "Pump > Warranty"}
FILTERS = [
    ({"type": "eq", "key": "product", "value": "F2"}, {"Filter"}),
    ({"type": "ne", "key": "product", "value": "F2"}, ALL - {"Filter"}),
    ({"type": "eq", "key": "year", "value": 2024}, {"Filter"}),
    ({"type": "eq", "key": "year", "value": 2024.0}, {"Filter"}),
    ({"type": "eq", "key": "year", "value": "2024"}, set()),
    ({"type": "gt", "key": "year", "value": 2020}, {"Filter"}),
    ({"type": "gte", "key": "year", "value": 2020}, {"Filter", "Valve"}),
    ({"type": "lt", "key": "year", "value": 2024}, {"Valve"}),
    ({"type": "lte", "key": "year", "value": 2024}, {"Filter", "Valve"}),
    ({"type": "gt", "key": "product", "value": "G"}, {"Valve"}),
    ({"type": "gt", "key": "product", "value": 1}, set()),
    ({"type": "eq", "key": "sold", "value": True}, {"Filter"}),
    ({"type": "eq", "key": "sold", "value": 1}, set()),
    ({"type": "eq", "key": "weight", "value": 1.5}, {"Filter"}),
    ({"type": "in", "key": "product", "value": ["V1", "X"]}, {"Valve"}),
    ({"type": "in", "key": "product", "value": []}, set()),
    ({"type": "nin", "key": "product", "value": ["V1", "F2"]}, PUMPS),
    ({"type": "nin", "key": "product", "value": []}, ALL),
    ({"type": "eq", "key": "filename", "value": "docs/pump.md"}, PUMPS),
    ({"type": "eq", "key": "heading", "value": "Pump > Reset"}, {"Pump > Reset"}),
    ({"type": "eq", "key": "heading", "value": 1}, set()),
    ({"type": "ne", "key": "heading", "value": 1}, ALL),
    ({"type": "eq", "key": "nothing", "value": "x"}, set()),
    ({"type": "ne", "key": "nothing", "value": "x"}, ALL),
    ({"type": "eq", "key": "'; DROP TABLE chunks; --", "value": "' OR 1=1 --"}, set()),
    ({"type": "eq", "key": "a\udc00", "value": "\ud800"}, set()),
    (
        {
            "type": "or",
            "filters": [
                {"type": "eq", "key": "sold", "value": False},
                {
                    "type": "and",
                    "filters": [
                        {"type": "eq", "key": "filename", "value": "docs/pump.md"},
                        {"type": "in", "key": "heading", "value": ["Pump", "Filter"]},
                    ],
                },
            ],
        },
        {"Valve", "Pump"},
    ),
]


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_filters(store: VectorIO, filters: dict[str, Any], expected: set[str], mode: Any) -> None:
    query = "pump reset warranty filter valve"
    assert {hit.heading for hit in store.search(query, Context(), mode=mode, filters=filters)} == expected


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


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"query": " "}, "query"),
        ({"limit": 0}, "max_num_results"),
        ({"limit": 1001}, "max_num_results"),
        ({"mode": "fuzzy"}, "search_mode"),
        ({"threshold": 1.5}, "ranking_options.score_threshold"),
        ({"threshold": float("nan")}, "ranking_options.score_threshold"),
    ],
)
def test_faulty_arguments_name_the_field(store: VectorIO, arguments: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as error:
        store.search(**{"query": "pump", "context": Context(), **arguments})
    assert (error.value.status, error.value.param) == (400, param)


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


def test_a_query_too_long_for_the_model_is_found_by_its_words_or_refused(compiler: Any) -> None:
    store = compiler.open(compiler.build(DOCS), Other(compiler.hashing(longest=20)))
    query = "My pump is broken and I pasted all of this, " * 10 + "warranty"
    best, *_ = store.search(query, Context())
    assert best.heading == "Pump > Warranty"
    assert best.score <= 0.5
    with pytest.raises(ApiError) as error:
        store.search(query, Context(), mode="vector")
    assert (error.value.status, error.value.param) == (400, "query")


def test_a_model_of_other_dimensions_is_a_clear_error(compiler: Any) -> None:
    root = compiler.build(DOCS)
    store = compiler.open(root, Other(compiler.hashing(dimensions=32)))
    with pytest.raises(ApiError, match="96 dimensions, model 'embed' gives 32") as error:
        store.search("pump", Context())
    assert (error.value.status, error.value.code) == (503, "index_mismatch")


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


def test_a_cancelled_search_stops(store: VectorIO) -> None:
    context = Context(deadline=0.0)
    with pytest.raises(ApiError) as error:
        store.search("pump", context)
    assert error.value.status == 408


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
