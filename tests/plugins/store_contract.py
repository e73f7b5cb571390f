"""The contract of `lsbuild_runtime.mutable` as tests that every provider runs: subclass a class and give its fixture.

    class TestMine(MutableStoreContract):
        @pytest.fixture
        def place(self, tmp_path: Path) -> Place: ...

Fixtures are built for one test and hold nothing but what their docstring says.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import pytest
from vec_hashing import Hashing

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.mutable import MutableVectorIO, StoredFile, StoreRecord, VectorStores
from lsbuild_runtime.ports import Attribute, Hit, Passage

DIMENSIONS = 96
"""Of the store's embedding model, which is `vec_hashing.Hashing()` under the name ``embed``."""

MODES = ("vector", "keyword", "hybrid")

COMPILED = {
    "docs/pump.md": "# Pump\n\nHold the red button for ten seconds.\n",
    "docs/valve.md": "---\nproduct: V1\nyear: 2020\n---\n# Valve\n\nTurn the valve to the left to close the water.\n",
}
"""What a provider that compiles documents has compiled into the place of `CompiledContract`."""


class Place(Protocol):
    """Where a store's data lie; it is empty at first."""

    def open(self) -> MutableVectorIO:
        """The store, opened as another process would: nothing but the data is shared with what was opened before."""
        ...


class Given(NamedTuple):
    """The three arguments of ``put`` and ``add``."""

    document: StoredFile
    passages: Sequence[Passage]
    vectors: Sequence[bytes]


def given(
    file_id: str, *texts: str, created_at: int = 100, attributes: Mapping[str, Attribute] | None = None, name: str = ""
) -> Given:
    """A document whose passages are ``texts``, one on each line, embedded by Hashing."""
    passages, start = [], 0
    for line, text in enumerate(texts, start=1):
        digest = hashlib.sha256(f"{file_id} {start} {text}".encode()).hexdigest()[:24]
        passages.append(Passage(f"chunk-{digest}", text, "Title", "Title", start, start + len(text), line, line))
        start += len(text) + 1
    whole = "\n".join(texts).encode()
    document = StoredFile(
        file_id=file_id,
        filename=name or f"{file_id}.md",
        sha256=hashlib.sha256(whole).hexdigest(),
        bytes=len(whole),
        attributes=attributes or {},
        passages=len(passages),
        created_at=created_at,
    )
    return Given(document, passages, embedded([passage.embedded for passage in passages]))


def embedded(texts: Sequence[str]) -> Sequence[bytes]:
    """Their vectors."""
    return Hashing(DIMENSIONS).embed(texts, Context()).vectors if texts else ()


def found(store: MutableVectorIO, query: str, **options: Any) -> list[str]:
    """The texts of a search's hits, best first."""
    return [hit.text for hit in store.search(query, Context(), **options)]


class MutableStoreContract:
    """What holds for every MutableVectorIO."""

    @pytest.fixture
    def place(self) -> Place:
        """An empty place for a store of the model ``embed`` with 96 dimensions."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, place: Place) -> MutableVectorIO:
        return place.open()

    def test_an_empty_store_answers(self, store: MutableVectorIO) -> None:
        info = store.info()
        assert (info.files, info.chunks, info.bytes, info.embedding) == (0, 0, 0, "embed")
        assert (store.files(), store.file("file-a"), store.passages("file-a")) == ([], None, [])
        assert all(found(store, "pump", mode=mode) == [] for mode in MODES)
        assert store.compact(Context()) == 0

    def test_what_was_put_is_there(self, store: MutableVectorIO) -> None:
        put = given(
            "file-a", "The pump is red.", "The valve is blue.", attributes={"year": 2024, "sold": True, "w": 1.5}
        )
        store.put(*put)
        assert store.file("file-a") == put.document
        assert store.files() == [put.document]
        assert store.passages("file-a") == list(put.passages)
        info = store.info()
        assert (info.files, info.chunks, info.bytes, info.dimensions) == (1, 2, put.document.bytes, DIMENSIONS)

    @pytest.mark.parametrize("mode", MODES)
    def test_a_search_finds_it_with_all_that_a_citation_needs(self, store: MutableVectorIO, mode: Any) -> None:
        put = given("file-a", "The pump is red.", "The valve is blue.", attributes={"sold": True}, name="a/b.md")
        store.put(*put)
        store.put(*given("file-b", "Nothing of that kind."))
        best, *_ = store.search("which valve is blue", Context(), mode=mode)
        passage = put.passages[1]
        assert best == Hit(
            chunk_id=passage.chunk_id,
            file_id="file-a",
            filename="a/b.md",
            text=passage.text,
            score=best.score,
            heading="Title",
            attributes={"sold": True},
            start=passage.start,
            end=passage.end,
            line_start=2,
            line_end=2,
        )
        assert type(best.attributes["sold"]) is bool
        assert 0 < best.score <= 1

    def test_its_own_text_has_the_vector_score_one(self, store: MutableVectorIO) -> None:
        store.put(*given("file-a", "The pump is red."))
        (hit,) = store.search("Title\nThe pump is red.", Context(), mode="vector")
        assert hit.score == pytest.approx(1.0, abs=1e-5)

    @pytest.mark.parametrize("mode", MODES)
    def test_limits_thresholds_and_order(self, store: MutableVectorIO, mode: Any) -> None:
        for number in range(30):
            store.put(*given(f"file-{number:02}", f"The pump number {number} " + "and more " * number))
        everything = store.search("the pump", Context(), mode=mode, limit=30)
        scores = [hit.score for hit in everything]
        assert scores == sorted(scores, reverse=True)
        assert len(everything) == 30
        assert store.search("the pump", Context(), mode=mode, limit=7) == everything[:7]
        above = store.search("the pump", Context(), mode=mode, limit=30, threshold=scores[9])
        assert above == [hit for hit in everything if hit.score >= scores[9]]

    @pytest.mark.parametrize("mode", MODES)
    def test_put_replaces_the_whole_document(self, store: MutableVectorIO, mode: Any) -> None:
        store.put(*given("file-a", "The pump is red.", "The valve is blue.", attributes={"year": 2024}))
        store.put(*given("file-b", "Another pump."))
        new = given("file-a", "The filter is green.", created_at=200, name="new.md")
        store.put(*new)
        assert sorted(found(store, "pump valve filter", mode=mode)) == ["Another pump.", "The filter is green."]
        assert store.file("file-a") == new.document
        assert store.passages("file-a") == list(new.passages)
        assert (store.info().files, store.info().chunks) == (2, 2)

    def test_replacing_is_atomic_for_searches(self, place: Place) -> None:
        """Whoever searches meanwhile sees one of the two forms, whole."""
        store = place.open()
        forms = [given("file-a", *(f"The {color} pump, part {n}." for n in range(6))) for color in ("red", "blue")]
        store.put(*forms[0])
        wanted = [sorted(passage.text for passage in form.passages) for form in forms]
        done = threading.Event()

        def watch(reader: MutableVectorIO) -> int:
            looks = 0
            while not done.is_set() or not looks:
                for mode in MODES:
                    assert sorted(found(reader, "the pump part", mode=mode, limit=50)) in wanted
                    looks += 1
            return looks

        with ThreadPoolExecutor(2) as threads:
            watchers = [threads.submit(watch, reader) for reader in (store, place.open())]
            for turn in range(20):
                store.put(*forms[turn % 2])
            done.set()
            assert all(watcher.result() for watcher in watchers)

    def test_add_makes_a_document_and_adds_to_it(self, store: MutableVectorIO) -> None:
        whole = given(
            "file-a", "The pump is red.", "The valve is blue.", "The filter is green.", attributes={"year": 1}
        )
        for passage, vector in zip(whole.passages, whole.vectors, strict=True):
            store.add(whole.document, [passage], [vector])
        assert store.passages("file-a") == list(whole.passages)
        assert store.file("file-a") == whole.document
        assert len(found(store, "pump valve filter")) == 3

    @pytest.mark.parametrize("mode", MODES)
    def test_add_replaces_passages_of_the_same_chunk_id(self, store: MutableVectorIO, mode: Any) -> None:
        whole = given("file-a", "The pump is red.", "The valve is blue.")
        store.put(*whole)
        old = whole.passages[0]
        text = "The zeppelin."
        new = Passage(old.chunk_id, text, old.heading, old.prefix, old.start, old.start + len(text), 1, 1)
        store.add(whole.document, [new], embedded([new.embedded]))
        assert store.passages("file-a") == [new, whole.passages[1]]
        assert sorted(found(store, "pump zeppelin valve", mode=mode)) == ["The valve is blue.", "The zeppelin."]
        assert store.info().chunks == 2

    @pytest.mark.parametrize("mode", MODES)
    def test_remove_forgets_a_document(self, store: MutableVectorIO, mode: Any) -> None:
        store.put(*given("file-a", "The pump is red."))
        store.put(*given("file-b", "The pump is blue."))
        assert store.remove("file-a")
        assert not store.remove("file-a")
        assert not store.remove("file-c")
        assert found(store, "the pump", mode=mode) == ["The pump is blue."]
        assert (store.file("file-a"), store.passages("file-a")) == (None, [])
        assert [file.file_id for file in store.files()] == ["file-b"]
        assert (store.info().files, store.info().chunks) == (1, 1)

    def test_a_removed_document_can_come_back(self, store: MutableVectorIO) -> None:
        put = given("file-a", "The pump is red.")
        store.put(*put)
        store.remove("file-a")
        store.put(*put)
        assert store.files() == [put.document]
        assert found(store, "pump") == ["The pump is red."]

    @pytest.mark.parametrize("mode", MODES)
    def test_attributes_are_replaced_and_filter(self, store: MutableVectorIO, mode: Any) -> None:
        store.put(*given("file-a", "The pump is red.", attributes={"year": 2020, "old": True}))
        store.put(*given("file-b", "The pump is blue.", attributes={"year": 2020}))
        assert store.set_attributes("file-a", {"year": 2024, "site": "north"})
        assert not store.set_attributes("file-c", {"year": 2024})
        document = store.file("file-a")
        assert document is not None
        assert document.attributes == {"year": 2024, "site": "north"}
        for filters, expected in FILTERED:
            hits = store.search("the pump", Context(), mode=mode, filters=filters)
            assert sorted(hit.file_id for hit in hits) == expected, filters
        (hit,) = store.search("the pump", Context(), mode=mode, filters=FILTERED[0][0])
        assert hit.attributes == {"year": 2024, "site": "north"}

    @pytest.mark.parametrize("mode", MODES)
    def test_a_filter_is_applied_before_the_limit(self, store: MutableVectorIO, mode: Any) -> None:
        for number in range(60):
            store.put(*given(f"file-{number}", "the pump the pump"))
        store.put(*given("file-x", "a very long text without it, but pump", attributes={"wanted": True}))
        filters = {"type": "eq", "key": "wanted", "value": True}
        (hit,) = store.search("the pump", Context(), mode=mode, limit=1, filters=filters)
        assert hit.file_id == "file-x"

    def test_files_are_listed_oldest_first(self, store: MutableVectorIO) -> None:
        for file_id, created_at in (("file-c", 300), ("file-b", 200), ("file-d", 200), ("file-a", 250)):
            store.put(*given(file_id, "text", created_at=created_at))
        assert [file.file_id for file in store.files()] == ["file-b", "file-d", "file-a", "file-c"]

    def test_two_documents_of_one_name_are_two(self, store: MutableVectorIO) -> None:
        store.put(*given("file-a", "The pump is red.", name="same.md"))
        store.put(*given("file-b", "The pump is blue.", name="same.md"))
        assert [file.filename for file in store.files()] == ["same.md", "same.md"]
        assert len(found(store, "pump")) == 2

    def test_a_document_without_passages_is_kept(self, store: MutableVectorIO) -> None:
        empty = given("file-a")
        store.put(*empty)
        assert store.file("file-a") == empty.document
        assert store.info().files == 1

    @pytest.mark.parametrize("method", ["put", "add"])
    def test_vectors_of_other_dimensions_are_refused_and_nothing_changes(
        self, store: MutableVectorIO, method: str
    ) -> None:
        store.put(*given("file-a", "The pump is red."))
        before = store.info()
        document, passages, _ = given("file-b", "one", "two")
        for vectors in ([*embedded(["x"]), array("f", [1.0] * 32).tobytes()], embedded(["x"])):
            with pytest.raises(ApiError) as error:
                getattr(store, method)(document, passages, vectors)
            assert error.value.status == 400
        assert store.info() == before
        assert store.file("file-b") is None

    def test_dimensions_are_named(self, store: MutableVectorIO) -> None:
        store.put(*given("file-a", "The pump is red."))
        document, passages, _ = given("file-b", "one")
        with pytest.raises(ApiError, match=r"(?s)(?=.*\b32\b)(?=.*\b96\b)"):
            store.put(document, passages, [array("f", [1.0] * 32).tobytes()])

    def test_texts_of_every_script_survive(self, store: MutableVectorIO) -> None:
        put = given(
            "file-ä", "Größe 10 µm", "泵是红色的", "emoji 🚰 pump", attributes={"ключ": "значение"}, name="日本.md"
        )
        store.put(*put)
        assert store.file("file-ä") == put.document
        assert store.passages("file-ä") == list(put.passages)
        assert found(store, "Größe", mode="keyword") == ["Größe 10 µm"]

    def test_everything_survives_reopening(self, place: Place) -> None:
        store = place.open()
        store.put(*given("file-a", "The pump is red.", attributes={"year": 2024}))
        store.put(*given("file-b", "The valve is blue."))
        store.put(*given("file-c", "The filter is green."))
        store.remove("file-b")
        store.set_attributes("file-c", {"year": 1999})
        again = place.open()
        assert again.files() == store.files()
        assert [file.file_id for file in again.files()] == ["file-a", "file-c"]
        assert again.info() == store.info()
        for mode in MODES:
            query = "pump valve filter"
            assert again.search(query, Context(), mode=mode) == store.search(query, Context(), mode=mode)

    def test_two_instances_see_each_others_writes(self, place: Place) -> None:
        first, second = place.open(), place.open()
        first.put(*given("file-a", "The pump is red."))
        assert found(second, "pump") == ["The pump is red."]
        second.put(*given("file-b", "The valve is blue."))
        second.set_attributes("file-a", {"year": 2024})
        document = first.file("file-a")
        assert document is not None
        assert document.attributes == {"year": 2024}
        assert [file.file_id for file in first.files()] == ["file-a", "file-b"]
        first.remove("file-b")
        assert found(second, "valve", mode="keyword") == []

    def test_two_instances_write_at_the_same_time(self, place: Place) -> None:
        def write(number: int) -> None:
            store = place.open()
            for turn in range(10):
                store.put(*given(f"file-{number}-{turn}", f"The pump {number} {turn}."))

        with ThreadPoolExecutor(3) as threads:
            list(threads.map(write, range(3)))
        assert place.open().info().files == 30

    @pytest.mark.parametrize("mode", MODES)
    def test_compacting_changes_no_answer(self, place: Place, mode: Any) -> None:
        store = place.open()
        for number in range(20):
            store.put(*given(f"file-{number:02}", f"The pump {number}.", f"Valve {number}.", created_at=number))
        store.remove("file-03")
        store.set_attributes("file-04", {"year": 2024})
        before = store.search("the pump 7", Context(), mode=mode, limit=50)
        files, info = store.files(), store.info()
        store.compact(Context())
        for each in (store, place.open()):
            after = each.search("the pump 7", Context(), mode=mode, limit=50)
            assert {hit.chunk_id: hit.attributes for hit in after} == {hit.chunk_id: hit.attributes for hit in before}
            assert [hit.score for hit in after] == pytest.approx([hit.score for hit in before], abs=1e-5)
            assert (each.files(), each.info()) == (files, info)
            assert each.passages("file-04") == list(given("file-04", "The pump 4.", "Valve 4.").passages)

    def test_after_compacting_everything_can_change_again(self, place: Place) -> None:
        store = place.open()
        for number in range(5):
            store.put(*given(f"file-{number}", f"The pump {number}.", attributes={"n": number}))
        store.compact(Context())
        store.remove("file-0")
        store.set_attributes("file-1", {"n": 100})
        store.put(*given("file-2", "The valve."))
        more = given("file-3", "The pump 3.", "And a zeppelin.")
        store.add(more.document, more.passages[1:], more.vectors[1:])
        for _ in range(2):
            for each in (store, place.open()):
                assert [file.file_id for file in each.files()] == ["file-1", "file-2", "file-3", "file-4"]
                texts = ["And a zeppelin.", "The pump 1.", "The pump 3.", "The pump 4.", "The valve."]
                assert sorted(found(each, "pump valve zeppelin")) == texts
                filters = {"type": "eq", "key": "n", "value": 100}
                assert found(each, "pump", filters=filters) == ["The pump 1."]
                assert found(each, "pump", filters={"type": "eq", "key": "n", "value": 1}) == []
                assert [passage.text for passage in each.passages("file-3")] == ["The pump 3.", "And a zeppelin."]
            store.compact(Context())


FILTERED: list[tuple[dict[str, Any], list[str]]] = [
    ({"type": "eq", "key": "year", "value": 2024}, ["file-a"]),
    ({"type": "eq", "key": "old", "value": True}, []),
    ({"type": "ne", "key": "site", "value": "north"}, ["file-b"]),
    ({"type": "in", "key": "year", "value": [2020, 2024]}, ["file-a", "file-b"]),
    ({"type": "eq", "key": "filename", "value": "file-b.md"}, ["file-b"]),
    ({"type": "lt", "key": "year", "value": 2024}, ["file-b"]),
]


class CompiledContract:
    """What holds for a provider that compiles documents into the artifact; they can be changed like all others."""

    @pytest.fixture
    def place(self) -> Place:
        """A place whose store has `COMPILED` compiled in."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, place: Place) -> MutableVectorIO:
        return place.open()

    @pytest.mark.parametrize("mode", MODES)
    def test_searches_join_compiled_and_added(self, store: MutableVectorIO, mode: Any) -> None:
        store.put(*given("file-a", "The zeppelin has a red button as well."))
        texts = found(store, "red button", mode=mode)
        assert {"Hold the red button for ten seconds.", "The zeppelin has a red button as well."} <= set(texts)
        hits = store.search("which zeppelin", Context(), mode=mode)
        assert hits[0].file_id == "file-a"
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_compiled_documents_are_listed_first(self, store: MutableVectorIO) -> None:
        store.put(*given("file-a", "The pump is red."))
        files = store.files()
        assert {file.filename for file in files[:2]} == set(COMPILED)
        assert [(file.created_at, file.passages) for file in files[:2]] == [(0, 1), (0, 1)]
        assert files[2].file_id == "file-a"
        assert (store.info().files, store.info().chunks) == (3, 3)
        for file in files:
            assert store.file(file.file_id) == file
            assert len(store.passages(file.file_id)) == file.passages

    @pytest.mark.parametrize("mode", MODES)
    def test_a_compiled_document_can_be_removed(self, place: Place, mode: Any) -> None:
        store = place.open()
        pump = named(store, "docs/pump.md")
        assert store.remove(pump.file_id)
        assert not store.remove(pump.file_id)
        for each in (store, place.open()):
            assert "docs/pump.md" not in {
                hit.filename for hit in each.search("hold the red button", Context(), mode=mode)
            }
            assert (each.file(pump.file_id), each.passages(pump.file_id)) == (None, [])
            assert (each.info().files, each.info().chunks) == (1, 1)
            assert [file.filename for file in each.files()] == ["docs/valve.md"]
        store.compact(Context())
        assert [file.filename for file in place.open().files()] == ["docs/valve.md"]

    @pytest.mark.parametrize("mode", MODES)
    def test_a_compiled_document_can_be_replaced(self, store: MutableVectorIO, mode: Any) -> None:
        pump = named(store, "docs/pump.md")
        store.put(*given(pump.file_id, "Hold the green button.", name="docs/pump.md"))
        texts = found(store, "hold the red button", mode=mode)
        assert texts[0] == "Hold the green button."
        assert "Hold the red button for ten seconds." not in texts
        assert store.info().files == 2

    @pytest.mark.parametrize("mode", MODES)
    def test_attributes_of_a_compiled_document_can_be_replaced(self, place: Place, mode: Any) -> None:
        store = place.open()
        valve = named(store, "docs/valve.md")
        assert valve.attributes == {"product": "V1", "year": 2020}
        assert store.set_attributes(valve.file_id, {"year": 2024, "site": "north"})
        for turn in range(2):
            for each in (store, place.open()):
                assert named(each, "docs/valve.md").attributes == {"year": 2024, "site": "north"}
                for filters, expected in (
                    ({"type": "eq", "key": "year", "value": 2024}, ["docs/valve.md"]),
                    ({"type": "eq", "key": "year", "value": 2020}, []),
                    ({"type": "ne", "key": "site", "value": "north"}, ["docs/pump.md"]),
                    ({"type": "in", "key": "product", "value": ["V1"]}, []),
                ):
                    hits = each.search("turn the valve button", Context(), mode=mode, filters=filters)
                    assert [hit.filename for hit in hits] == expected, (turn, filters)
                    assert all(
                        hit.attributes == {"year": 2024, "site": "north"}
                        for hit in hits
                        if hit.file_id == valve.file_id
                    )
            store.compact(Context())

    @pytest.mark.parametrize("mode", MODES)
    def test_passages_can_be_added_to_a_compiled_document(self, store: MutableVectorIO, mode: Any) -> None:
        pump = named(store, "docs/pump.md")
        more = given(pump.file_id, "x" * 100, "And a zeppelin.", name="docs/pump.md")
        store.add(more.document, more.passages[1:], more.vectors[1:])
        assert [passage.text for passage in store.passages(pump.file_id)] == [
            "Hold the red button for ten seconds.",
            "And a zeppelin.",
        ]
        assert found(store, "zeppelin", mode=mode)[0] == "And a zeppelin."
        assert found(store, "hold the red button", mode=mode)[0] == "Hold the red button for ten seconds."
        assert (store.info().files, store.info().chunks) == (2, 3)


def named(store: MutableVectorIO, filename: str) -> StoredFile:
    """The one document of that name."""
    (file,) = [file for file in store.files() if file.filename == filename]
    return file


class Stores(Protocol):
    """Where stores that clients create lie; there is none at first."""

    def open(self) -> VectorStores:
        """The service, opened as another process would."""
        ...


def record(store_id: str, **changes: Any) -> StoreRecord:
    """A record as the routes make it."""
    values: dict[str, Any] = {
        "id": store_id,
        "name": "My store",
        "created_at": 100,
        "last_active_at": 100,
        "embedding": "embed",
        "dimensions": DIMENSIONS,
        "metadata": {"team": "pumps"},
        **changes,
    }
    return StoreRecord(**values)


class VectorStoresContract:
    """What holds for every VectorStores."""

    @pytest.fixture
    def shelves(self) -> Stores:
        """A place without stores."""
        raise NotImplementedError

    def test_nothing_is_there_at_first(self, shelves: Stores) -> None:
        stores = shelves.open()
        assert (stores.records(), stores.open("vs_1")) == ([], None)
        assert not stores.drop("vs_1")
        assert not stores.update(record("vs_1"))

    def test_a_created_store_takes_documents_and_survives_reopening(self, shelves: Stores) -> None:
        stores = shelves.open()
        store = stores.create(record("vs_1"))
        assert (store.info().files, store.info().dimensions, store.info().embedding) == (0, DIMENSIONS, "embed")
        store.put(*given("file-a", "The pump is red."))
        again = shelves.open()
        assert again.records() == [record("vs_1")]
        opened = again.open("vs_1")
        assert opened is not None
        assert found(opened, "pump") == ["The pump is red."]

    def test_stores_do_not_see_each_other(self, shelves: Stores) -> None:
        stores = shelves.open()
        first, second = stores.create(record("vs_1")), stores.create(record("vs_2"))
        first.put(*given("file-a", "The pump is red."))
        assert found(second, "pump") == []
        assert second.file("file-a") is None

    def test_records_are_listed_oldest_first(self, shelves: Stores) -> None:
        stores = shelves.open()
        for store_id, created_at in (("vs_c", 300), ("vs_b", 100), ("vs_a", 200), ("vs_d", 100)):
            stores.create(record(store_id, created_at=created_at))
        assert [each.id for each in shelves.open().records()] == ["vs_b", "vs_d", "vs_a", "vs_c"]

    def test_a_record_is_updated(self, shelves: Stores) -> None:
        stores, other = shelves.open(), shelves.open()
        stores.create(record("vs_1"))
        new = record("vs_1", name="Other", last_active_at=500, metadata={}, expires_days=7)
        assert stores.update(new)
        assert other.records() == [new]

    def test_an_id_is_given_once(self, shelves: Stores) -> None:
        stores = shelves.open()
        stores.create(record("vs_1")).put(*given("file-a", "The pump is red."))
        with pytest.raises(ApiError) as error:
            shelves.open().create(record("vs_1"))
        assert error.value.status == 409
        kept = stores.open("vs_1")
        assert kept is not None
        assert kept.info().files == 1

    def test_a_dropped_store_is_gone_everywhere(self, shelves: Stores) -> None:
        stores, other = shelves.open(), shelves.open()
        stores.create(record("vs_1")).put(*given("file-a", "The pump is red."))
        stores.create(record("vs_2"))
        assert other.open("vs_1") is not None
        assert stores.drop("vs_1")
        assert not stores.drop("vs_1")
        for each in (stores, other, shelves.open()):
            assert each.open("vs_1") is None
            assert [each.id for each in each.records()] == ["vs_2"]

    def test_a_dropped_id_comes_back_empty(self, shelves: Stores) -> None:
        stores, other = shelves.open(), shelves.open()
        stores.create(record("vs_1")).put(*given("file-a", "The pump is red."))
        assert other.open("vs_1") is not None
        stores.drop("vs_1")
        assert stores.create(record("vs_1", created_at=200)).files() == []
        again = other.open("vs_1")
        assert again is not None
        assert again.files() == []

    @pytest.mark.parametrize("store_id", ["", ".", "..", "../x", "a/b", "a\0b", "x" * 300, "ä", "a b"])
    def test_an_id_is_never_a_path(self, shelves: Stores, store_id: str) -> None:
        stores = shelves.open()
        assert stores.open(store_id) is None
        assert not stores.drop(store_id)
        with pytest.raises(ApiError) as error:
            stores.create(record(store_id))
        assert error.value.status == 400
        assert stores.records() == []
