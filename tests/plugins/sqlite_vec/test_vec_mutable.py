"""The contract of writable stores, and what is this provider's own: layers, generations, new builds below old state."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import apsw
import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray
from store_contract import (
    COMPILED,
    DIMENSIONS,
    MODES,
    CompiledContract,
    MutableStoreContract,
    Place,
    Stores,
    VectorStoresContract,
    embedded,
    found,
    given,
    named,
    record,
)
from vec_history import check_files
from vec_state import KIND, Bare, Based, Shelves, StateHost, service

from lsbuild_plugins.sqlite_vec.plugin import PLUGIN
from lsbuild_plugins.sqlite_vec.serve import clustered, layers, open_store, open_stores
from lsbuild_plugins.sqlite_vec.serve import compact as compacting
from lsbuild_plugins.sqlite_vec.serve.compact import Idle, due, fold, switch_over
from lsbuild_plugins.sqlite_vec.serve.format import APPLICATION_ID, LISTS, SCHEMA, TABLES
from lsbuild_plugins.sqlite_vec.serve.generation import Generations, Gone, sweep
from lsbuild_plugins.sqlite_vec.serve.mutable import Mutable
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.mutable import CHUNK, TOKENIZER, WHEELS, MutableVectorIO
from lsbuild_runtime.serve.compact import compact
from small_services import small_manifest


class TestWithoutBase(MutableStoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Bare(tmp_path)


class TestAboveAnIndex(CompiledContract):
    @pytest.fixture(params=["float32", "int8"])
    def place(self, tmp_path: Path, compiler: Any, request: pytest.FixtureRequest) -> Place:
        return Based(compiler.build(COMPILED, config={"vectors": request.param}), tmp_path / "state")

    def test_compiled_passages_come_with_what_was_embedded(self, store: MutableVectorIO) -> None:
        embedded = [passage.embedded for file in store.files() for passage in store.passages(file.file_id)]
        assert sorted(embedded) == [
            "Pump\nHold the red button for ten seconds.",
            "Valve\nTurn the valve to the left to close the water.",
        ]


class TestCreated(VectorStoresContract):
    @pytest.fixture
    def shelves(self, tmp_path: Path) -> Stores:
        return Shelves(tmp_path)


def test_a_store_without_sources_compiles_to_an_empty_index_that_knows_its_model(compiler: Any, tmp_path: Path) -> None:
    (step,) = PLUGIN.compile(compiler.item(sources=(), mutable=True), compiler.given({})).steps
    out, facts = compiler.run(step, {"embedding": compiler.model})
    assert (facts["dimensions"], facts["chunks"]) == (DIMENSIONS, 0)
    assert (out / "index.db").read_bytes() == (
        compiler.run(step, {"embedding": compiler.model})[0] / "index.db"
    ).read_bytes()
    (tmp_path / "root/indexes").mkdir(parents=True)
    (tmp_path / "root/indexes/manuals").symlink_to(out)
    store = Based(tmp_path / "root", tmp_path / "state").open()
    assert (store.info().files, store.info().dimensions, found(store, "pump")) == (0, DIMENSIONS, [])
    store.put(*given("file-a", "The pump is red."))
    for mode in MODES:
        assert found(store, "pump", mode=mode) == ["The pump is red."]


def test_what_a_mutable_store_declares(compiler: Any) -> None:
    item = compiler.item(mutable=True, search="keyword", chunk={"tokens": 64, "overlap": 8})
    compiled = PLUGIN.compile(item, compiler.given({"docs/a.md": "x"}))
    store, created = compiled.services
    assert (store.api, store.entry.rpartition(":")[2], store.path) == ("vector_io", "open_store", "indexes/manuals")
    assert (created.api, created.entry.rpartition(":")[2], created.path) == ("vector_stores", "open_stores", "")
    uploads = {CHUNK: {"tokens": 64, "overlap": 8}, TOKENIZER: "models/embed/tokenizer.json"}
    fusion = {"ranker": "rrf", "vector": 1.0, "keyword": 1.0}
    assert store.config == created.config == {"search": "keyword", "fusion": fusion, **uploads}
    assert store.needs == created.needs == ("embeddings/embed",)
    assert store.metadata == {"embedding_model": "embed", "mutable": True}
    assert "mutable" not in created.metadata
    assert set(WHEELS) <= set(compiled.wheels)
    fixed = PLUGIN.compile(compiler.item(), compiler.given({"docs/a.md": "x"}))
    assert len(fixed.services) == 1
    assert not set(WHEELS[1:]) & set(fixed.wheels)


def test_a_store_that_nobody_wrote_to_writes_nothing(tmp_path: Path, compiler: Any) -> None:
    store = Based(compiler.build(COMPILED), tmp_path / "state").open()
    assert len(store.files()) == 2
    assert found(store, "valve")
    assert store.compact(Context()) == 0
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []


def test_without_a_state_folder_searches_answer_and_writes_are_refused(compiler: Any) -> None:
    place = Based(compiler.build(COMPILED), None)
    store = place.open()
    assert found(store, "hold the red button")[0] == "Hold the red button for ten seconds."
    assert len(store.files()) == 2
    with pytest.raises(ApiError, match="keeps no state") as error:
        store.put(*given("file-a", "x"))
    assert error.value.status == 503
    stores = Shelves(None).open()
    assert (stores.records(), stores.open("vs_1")) == ([], None)
    with pytest.raises(ApiError, match="keeps no state"):
        stores.create(record("vs_1"))


def test_a_new_build_meets_an_old_delta(tmp_path: Path, compiler: Any) -> None:
    """What was hidden stays hidden, what was replaced stays replaced, what was added is there; what is new is seen."""
    old = Based(compiler.build(COMPILED | {"docs/filter.md": "The filter is old."}), tmp_path / "state").open()
    pump, valve = named(old, "docs/pump.md"), named(old, "docs/valve.md")
    old.remove(pump.file_id)
    old.set_attributes(valve.file_id, {"year": 2030})
    old.put(*given(named(old, "docs/filter.md").file_id, "The filter is mine.", name="docs/filter.md"))
    old.put(*given("file-a", "The zeppelin."))
    for turn in range(2):
        texts = {
            "docs/pump.md": "# Pump\n\nHold the green button.\n",
            "docs/valve.md": f"# Valve\n\nTurn the valve to the right, {turn}.\n",
            "docs/filter.md": "The filter is new.",
            f"docs/tank{turn}.md": "The tank is new.",
        }
        new = Based(compiler.build(texts), tmp_path / "state").open()
        assert {file.filename for file in new.files()} == {
            "docs/valve.md",
            "docs/filter.md",
            f"docs/tank{turn}.md",
            "file-a.md",
        }
        everything = "button valve filter zeppelin tank"
        assert sorted(found(new, everything)) == [
            "The filter is mine.",
            "The tank is new.",
            "The zeppelin.",
            f"Turn the valve to the right, {turn}.",
        ]
        assert named(new, "docs/valve.md").attributes == {"year": 2030}
        new.compact(Context())


@pytest.mark.parametrize(
    ("embedding", "dimensions", "match"), [("other", 96, "'embed'.*'other'"), ("embed", 32, "96.*32")]
)
def test_a_delta_of_another_model_is_refused(tmp_path: Path, embedding: str, dimensions: int, match: str) -> None:
    Bare(tmp_path).open().put(*given("file-a", "The pump is red."))
    kind = KIND._replace(embedding=embedding, dimensions=dimensions)
    store = Mutable(kind, None, lambda: Bare(tmp_path).folder, StateHost(tmp_path))
    for ask in (store.files, lambda: store.search("pump", Context(), mode="keyword"), lambda: store.remove("file-a")):
        with pytest.raises(ApiError, match=match) as error:
            ask()
        assert (error.value.status, error.value.code) == (503, "store_mismatch")


def test_what_changes_while_a_compaction_runs_is_kept(tmp_path: Path) -> None:
    store = Bare(tmp_path).open()
    for number in range(6):
        store.put(*given(f"file-{number}", f"The pump {number}.", created_at=number, attributes={"n": number}))
    for turn in range(2):  # above nothing, and above a generation
        with store._view() as view:
            assert view.head is not None
            delta = store._written()
            assert delta is not None
            built = fold(delta, view.layers, view.head, Context())
        assert built is not None
        store.remove("file-0")
        store.set_attributes("file-1", {"n": 100 + turn})
        store.put(*given("file-2", f"The valve {turn}.", created_at=2, attributes={"n": 2}))
        more = given("file-3", "The pump 3.", f"Zeppelin {turn}.", created_at=3, attributes={"n": 3})
        store.add(more.document, more.passages[1:], more.vectors[1:])
        store.put(*given(f"file-{6 + turn}", "The tank.", created_at=6 + turn))
        expected = (store.files(), sorted(found(store, "pump valve zeppelin tank", limit=50)), store.info())
        switch_over(delta, built, view.head)
        for each in (store, Bare(tmp_path).open()):
            again = (each.files(), sorted(found(each, "pump valve zeppelin tank", limit=50)), each.info())
            assert again == expected
        check_files(store)
        store.put(*given("file-0", "The pump 0.", created_at=0))


def test_a_generation_that_nobody_names_goes_and_one_in_use_can_still_be_read(tmp_path: Path) -> None:
    store, reader = Bare(tmp_path).open(), Bare(tmp_path).open()
    folder = Bare(tmp_path).folder
    store.put(*given("file-a", "The pump is red."))
    store.compact(Context())
    (first,) = folder.glob("generation-*")
    with reader._view() as view:  # a search that began before the next compaction
        (folder / "generation-0123456789abcdef.new").write_bytes(b"left by a process that died")
        store.put(*given("file-b", "The pump is blue."))
        store.compact(Context())
        (second,) = folder.glob("generation-*")
        assert second != first
        ranked = layers.near(view.layers, embedded(["pump"])[0], 10, 10, None)
        assert [hit.file_id for hit in layers.hits(view.layers, ranked)] == ["file-a"]
    assert len(reader.files()) == 2


def test_a_generation_that_goes_before_it_is_opened_is_gone_and_not_a_fault_of_the_disk(tmp_path: Path) -> None:
    store = Bare(tmp_path).open()
    store.put(*given("file-a", "The pump is red."))
    store.compact(Context())
    with store._view() as view:
        named = view.head.generation if view.head else None
    assert named is not None
    opened = Generations(KIND.embedding, KIND.dimensions).opened(Bare(tmp_path).folder, named)
    with opened.pool.borrowed():
        sweep(Bare(tmp_path).folder, None)
        with pytest.raises(Gone), opened.pool.borrowed():  # a second search at once needs a connection of its own
            pass
    with pytest.raises(Gone):
        Generations(KIND.embedding, KIND.dimensions).opened(Bare(tmp_path).folder, named)


def test_a_store_that_was_emptied_has_no_generation(tmp_path: Path) -> None:
    store = Bare(tmp_path).open()
    store.put(*given("file-a", "The pump is red."))
    store.compact(Context())
    store.remove("file-a")
    store.compact(Context())
    assert list(Bare(tmp_path).folder.glob("generation-*")) == []
    assert store.info().files == 0
    store.put(*given("file-a", "The pump is red."))
    assert found(store, "pump") == ["The pump is red."]


def test_a_compaction_that_is_cancelled_leaves_everything(tmp_path: Path) -> None:
    store = Bare(tmp_path).open()
    store.put(*given("file-a", "The pump is red."))
    with pytest.raises(ApiError) as error:
        store.compact(Context(deadline=0.0))
    assert error.value.status == 408
    assert list(Bare(tmp_path).folder.glob("generation-*")) == []
    assert found(store, "pump") == ["The pump is red."]


def test_one_compaction_at_a_time(tmp_path: Path) -> None:
    store, other = Bare(tmp_path).open(), Bare(tmp_path).open()
    store.put(*given("file-a", "The pump is red."))
    from lsbuild_plugins.sqlite_vec.serve.statefile import locked

    with locked(Bare(tmp_path).folder):
        assert other.compact(Context()) == 0
    assert other.compact(Context()) == 1


@pytest.mark.parametrize(
    ("written", "below", "expected"),
    [(2000, 0, False), (2001, 0, True), (2001, 100_000, False), (10_001, 100_000, True), (0, 0, False)],
)
def test_when_a_delta_is_folded(written: int, below: int, expected: bool) -> None:
    assert due(written, below) is expected


def test_an_idle_store_folds_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "PASSAGES", 3)
    store = Bare(tmp_path).open()
    done = threading.Event()

    def work() -> None:
        assert store.compact(Context()) == 4
        done.set()

    store._idle = Idle(work, 0.01)
    store.put(*given("file-a", "one", "two", "three"))
    assert not done.wait(0.1)
    store.put(*given("file-b", "four"))
    assert done.wait(30)
    assert len(list(Bare(tmp_path).folder.glob("generation-*.db"))) == 1


def test_idle_work_waits_while_the_store_is_used_and_can_be_called_off() -> None:
    calls: list[int] = []
    idle = Idle(lambda: calls.append(1), 3600)
    idle.wanted()
    idle._look()  # the timer's moment, but the store was never used: it is long idle
    assert calls == [1]
    idle.used()
    idle.wanted()
    idle._look()
    assert calls == [1]
    idle.cancel()


def test_hidden_documents_do_not_push_others_out(tmp_path: Path, compiler: Any) -> None:
    """The hundred best of a compiled index are hidden; those behind them fill the limit, however it is asked."""
    docs = {f"{n:03}.txt": "the pump the pump" for n in range(100)} | {
        f"other{n}.txt": f"a very long text without it, but pump {n}" for n in range(5)
    }
    store = Based(compiler.build(docs), tmp_path / "state").open()
    for file in store.files():
        if not file.filename.startswith("other"):
            store.remove(file.file_id)
    for mode in ("vector", "keyword", "hybrid"):
        for filters in (None, {"type": "ne", "key": "filename", "value": "x"}):
            hits = store.search("the pump", Context(), mode=mode, limit=5, filters=filters)  # type: ignore[arg-type]
            assert {hit.filename for hit in hits} == {f"other{n}.txt" for n in range(5)}


def test_more_hidden_documents_than_are_fetched_beside(
    tmp_path: Path, compiler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_FETCHED_BESIDE", (1, 2))
    test_hidden_documents_do_not_push_others_out(tmp_path, compiler)


def test_words_are_weighed_over_all_layers(tmp_path: Path, compiler: Any) -> None:
    """A word that every passage of the delta has, and none below, is rare in the store."""
    docs = {f"{n}.txt": "the pump and the valve in the water" for n in range(50)}
    store = Based(compiler.build(docs), tmp_path / "state").open()
    store.put(*given("file-a", "The zeppelin."))
    best, second, *_ = store.search("zeppelin pump", Context(), mode="keyword")
    assert best.text == "The zeppelin."
    assert best.score > 2 * second.score
    plenty = Based(compiler.build(docs | {"z.txt": "The zeppelin."}), None).open()
    reference, other, *_ = plenty.search("zeppelin pump", Context(), mode="keyword")
    assert best.score == pytest.approx(reference.score, rel=0.35)  # lengths are averaged in each layer
    assert second.score == pytest.approx(other.score, abs=0.01)


def test_a_created_store_remembers_its_model(tmp_path: Path) -> None:
    stores = Shelves(tmp_path).open()
    stores.create(record("vs_1"))
    with pytest.raises(ApiError, match="'embed' with 96") as error:
        stores.update(record("vs_1", dimensions=32))
    assert (error.value.status, error.value.param) == (400, "embedding_model")


def test_folders_that_a_crash_left_go_and_many_stores_stay_open_only_in_part(tmp_path: Path) -> None:
    stores = Shelves(tmp_path).open()
    folder = tmp_path / "vector_stores/manuals.created"
    for number in range(70):
        stores.create(record(f"vs_{number}", created_at=number)).put(*given("file-a", f"The pump {number}."))
    (folder / "vs_x~000000000000").mkdir()
    stores.create(record("vs_70", created_at=70))
    assert not (folder / "vs_x~000000000000").exists()
    for number in range(70):
        store = stores.open(f"vs_{number}")
        assert store is not None
        assert found(store, "pump") == [f"The pump {number}."]
    assert len(list(Path("/proc/self/fd").iterdir())) < 600


def test_compact_folds_every_mutable_store_of_a_bundle(tmp_path: Path, compiler: Any) -> None:
    root = compiler.build(COMPILED)
    (root / "models").mkdir()
    (root / "models/embed").symlink_to(compiler.model)
    state = tmp_path / "state"
    host = StateHost(state)
    listed = service(api="vector_stores", path="", entry="lsbuild_plugins.sqlite_vec.serve:open_stores", metadata={})
    model: Service = compiler.service
    manifest = small_manifest([model, service(), listed])
    open_store(service(), root, host).put(*given("file-a", "one", "two"))  # type: ignore[attr-defined]
    open_stores(listed, root, host).create(record("vs_1")).put(*given("file-b", "three"))
    said: list[str] = []
    assert compact(manifest, root, state, said.append, said.append)
    assert said == ["manuals: 2 passages folded\n", "vs_1: 1 passages folded\n"]
    said.clear()
    assert compact(replace(manifest, services=(model,)), root, state, said.append, said.append)
    assert said == ["this artifact has no mutable stores\n"]
    (state / "vector_stores/manuals/delta.db").write_bytes(b"garbage" * 1000)
    said.clear()
    assert not compact(manifest, root, state, said.append, said.append)
    assert said[0].startswith("lsbuild: manuals: ")
    assert said[1] == "vs_1: 0 passages folded\n"


def test_a_writable_store_imports_neither_numpy_nor_the_builder(compiler: Any, tmp_path: Path) -> None:
    root = compiler.build(COMPILED)
    code = (
        "import sys; from pathlib import Path; from vec_state import Based; from store_contract import given\n"
        "before = set(sys.modules)\n"
        "store = Based(Path(sys.argv[1]), Path(sys.argv[2])).open()\n"
        "store.put(*given('file-a', 'The pump.')); store.compact(store and __import__('lsbuild_runtime.http').http.Context())\n"
        "assert store.search('pump', __import__('lsbuild_runtime.http').http.Context())\n"
        "names = {'numpy', 'sqlite_vec', 'sqlite3', 'pydantic', 'lsbuild', 'tokenizers'}\n"
        "print(*sorted(names & set(sys.modules)))"
    )
    paths = [path for path in sys.path if path.endswith(("/tests", "/plugins", "/runtime", "/sqlite_vec"))]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}", str(root), str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize(
    "attributes",
    [{"size": 2**64}, {"site": "\ud800"}, {"\udc00": 1}],
    ids=["a large number", "a half character", "a half key"],
)
def test_what_sqlite_cannot_hold_is_a_400_and_nothing_changes(tmp_path: Path, attributes: dict[str, Any]) -> None:
    store = Bare(tmp_path).open()
    store.put(*given("file-a", "The pump is red."))
    with pytest.raises(ApiError) as error:
        store.put(*given("file-b", "The pump is blue.", attributes=attributes))
    assert error.value.status == 400
    with pytest.raises(ApiError) as error:
        store.set_attributes("file-a", attributes)
    assert error.value.status == 400
    assert [dict(file.attributes) for file in store.files()] == [{}]


SIZE = 48
"""Of the vectors of a clustered index."""


def test_a_large_generation_is_searched_by_the_lists_of_the_index_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clustered, "EXACT", 500)
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((60, SIZE))

    def points(count: int) -> NDArray[np.float32]:
        drawn = centres[rng.integers(0, len(centres), count)] + 0.4 * rng.standard_normal((count, SIZE))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    scale = 127 / 0.5
    unit = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    root = tmp_path / "root/indexes/manuals"
    root.mkdir(parents=True)
    db = apsw.Connection(str(root / "index.db"))
    with db:
        db.execute(TABLES + LISTS)
        names = {"embedding": "embed", "dimensions": SIZE, "encoding": "int8", "scale": scale, "lists": 60, "probes": 8}
        meta = msgspec.json.encode({**names, "files": 0, "chunks": 0, "bytes": 0}).decode()
        db.execute("INSERT INTO meta VALUES (?)", (meta,))
        for number, centre in enumerate(unit, start=1):
            code = np.clip(np.rint(centre * scale), -127, 127).astype(np.int8).tobytes()
            db.execute("INSERT INTO lists VALUES (?, 1, 0, ?)", (number, code))
        db.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA}")
    db.close()

    place = Based(tmp_path / "root", tmp_path / "state", dimensions=SIZE)
    store = place.open()
    vectors = points(1500)
    for number in range(150):
        whole = given(
            f"file-{number:03}", *(f"text {number} {part}" for part in range(10)), attributes={"n": number % 2}
        )
        own = vectors[number * 10 : number * 10 + 10]
        store.put(whole.document, whole.passages, [row.tobytes() for row in own])
    queries = points(30)

    def recall(each: Mutable) -> float:
        hit = 0
        for query in queries:
            best = {int(row) for row in np.argsort(-(vectors @ query))[:10]}
            with each._view() as view:
                found = layers.hits(view.layers, layers.near(view.layers, query.tobytes(), 10, 10, None))
            hit += len(best & {10 * int(each.file_id[5:]) + each.line_start - 1 for each in found})
        return hit / 10 / len(queries)

    assert recall(store) == 1.0
    assert store.compact(Context()) == 1500
    for each in (store, place.open()):
        with each._view() as view:
            generation = next(layer for layer in view.layers if layer.number == layers.GENERATION)
            assert 0 < generation.meta.lists <= 60
            assert generation.db.execute("SELECT count(*) FROM placed").get == 1500
        assert recall(each) >= 0.9
    odd = {"type": "eq", "key": "n", "value": 1}
    assert all(hit.attributes == {"n": 1} for hit in store.search("text", Context(), mode="vector", filters=odd))
    again = given("file-000", *(f"text 0 {part}" for part in range(10)), attributes={"n": 0})
    store.add(again.document, again.passages[:1], [vectors[0].tobytes()])  # copied up from the lists, nothing rounded
    store.compact(Context())
    assert recall(store) >= 0.9
    monkeypatch.setattr(clustered, "SCHEMA", SCHEMA + 1)  # a later runtime with lists of another form
    assert recall(place.open()) == 1.0
