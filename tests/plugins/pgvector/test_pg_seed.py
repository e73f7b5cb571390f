"""A fleet shares one store: whoever starts first loads the build's documents, once, and clients' documents stay."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pg_place import numbered
from store_contract import found

from lsbuild_plugins.pgvector.serve import load, search, tune
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.mutable import MutableVectorIO

FIRST = {"docs/a.md": "The pump is red.", "docs/b.md": "The valve is blue.", "docs/c.md": "The filter is green."}
SECOND = {"docs/a.md": "The pump is red.", "docs/b.md": "The valve is yellow.", "docs/d.md": "The hose is black."}
HERE = Path(__file__).parent


def held(store: MutableVectorIO) -> dict[str, list[str]]:
    return {file.filename: [passage.text for passage in store.passages(file.file_id)] for file in store.files()}


def rows(place: Any) -> dict[str, int]:
    """File name -> the row that holds it: a document that is loaded again has another one."""
    with place.connect() as connection:
        return dict(
            connection.execute(
                "SELECT f.filename, max(p.id) FROM passages_1 p JOIN files_1 f ON f.id = p.file GROUP BY 1"
            )
        )


def test_many_that_start_at_once_load_the_seed_once(place: Any) -> None:
    path = place.seed({f"docs/{n}.md": f"The pump number {n}." for n in range(40)})
    stores = [place.open(path=path) for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        counts = list(threads.map(lambda store: (store.info().files, store.info().chunks), stores))
    assert counts == [(40, 40)] * 6
    with place.connect() as connection:
        assert connection.execute("SELECT max(id) FROM passages_1").fetchone() == (40,)


READER = """
import sys
dsn, schema, root, path, *paths = sys.argv[1:]
sys.path[:0] = paths
from lsbuild_runtime.http import Context
from pg_place import numbered, opened
store = opened(dsn, schema, root, path)
print(*sorted(hit.text for hit in store.search("pump", Context(), mode="keyword")), sep="|", flush=True)
name = sys.stdin.readline().strip()
store.put(*numbered(name, [f"The pump of {name}."]))
print("stored", flush=True)
sys.stdin.readline()
print(*sorted(hit.text for hit in store.search("pump", Context(), mode="keyword")), sep="|", flush=True)
"""


def test_two_processes_start_at_once_and_share_one_store(place: Any) -> None:
    path = place.seed(FIRST)
    paths = [str(HERE), str(HERE.parent / "sqlite_vec"), str(HERE.parents[1])]
    command = [sys.executable, "-c", READER, place.dsn, place.schema, str(place.root), path, *paths]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    try:
        for process in both:  # both have read the seed before the first of them writes
            assert process.stdout
            assert process.stdout.readline() == "The pump is red.\n"
        for name, process in zip(("one", "two"), both, strict=True):
            assert process.stdout
            assert process.stdin
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "stored\n"
        for process in both:
            out, _ = process.communicate("\n", timeout=60)
            assert out == "The pump is red.|The pump of one.|The pump of two.\n"
    finally:
        for process in both:
            process.kill()
            process.wait()


def test_the_next_build_replaces_its_documents_and_touches_no_other(place: Any) -> None:
    first = place.open(path=place.seed(FIRST))
    first.put(*numbered("file-mine", ["The zeppelin."]))
    before = rows(place)
    second = place.open(path=place.seed(SECOND, "second"))
    wanted = {path: [text] for path, text in SECOND.items()} | {"file-mine": ["The zeppelin."]}
    assert held(second) == held(first) == wanted
    after = rows(place)
    assert {name for name in before.keys() & after.keys() if before[name] != after[name]} == {"docs/b.md"}
    assert found(first, "hose", mode="keyword") == ["The hose is black."]


def test_what_clients_did_to_compiled_documents_outlives_the_next_build(place: Any) -> None:
    store = place.open(path=place.seed(FIRST))
    ids = {file.filename: file.file_id for file in store.files()}
    store.remove(ids["docs/a.md"])
    document, *rest = numbered(ids["docs/b.md"], ["My own valve."])
    store.put(document, *rest)
    assert store.set_attributes(ids["docs/c.md"], {"site": "north"})
    again = place.open(path=place.seed({**FIRST, "docs/c.md": "The filter is white."}, "second"))
    assert held(again) == {ids["docs/b.md"]: ["My own valve."], "docs/c.md": ["The filter is white."]}
    kept = again.file(ids["docs/c.md"])
    assert kept is not None
    assert kept.attributes == {"site": "north"}


def test_a_load_that_fails_leaves_the_store_as_it_was(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.open(path=place.seed(FIRST))
    wanted = held(first)
    path = place.seed(SECOND, "second")

    def fails(*_: object) -> None:
        raise OSError("the disk of this machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr(load.documents, "delete", fails)  # the last thing that a load does to documents
        with pytest.raises(OSError, match="disk"):
            place.open(path=path).info()
    assert held(first) == wanted
    assert held(place.open(path=path)) == {path: [text] for path, text in SECOND.items()}


def test_a_seed_of_another_model_is_refused_with_both_named(place: Any) -> None:
    place.open(path=place.seed(FIRST)).info()
    from lsbuild_plugins.pgvector.serve.seed import write

    other = place.root / "indexes/other"
    other.mkdir()
    write(other, "embed", 32, ())
    with pytest.raises(ApiError, match=r"(?s)(?=.*\b32\b)(?=.*\b96\b).*config\.schema") as error:
        place.open(path="indexes/other").info()
    assert (error.value.status, error.value.code) == (503, "index_mismatch")


def test_what_the_index_is_asked_for_meets_the_recall_that_is_wanted(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number that was measured is set in every session that searches, and a recall of 1 needs no index."""
    monkeypatch.setattr(search, "EXACT_ROWS", 20)
    monkeypatch.setattr(tune, "CHOICES", (10, 25))
    path = place.seed({f"docs/{n}.md": f"The pump number {n} of {n % 7}." for n in range(120)})
    store = place.open(path=path)
    assert len(found(store, "pump number 7", mode="vector", limit=10)) == 10
    with place.connect() as connection:
        ((chosen,),) = connection.execute("SELECT ef_search FROM stores").fetchall()
    assert chosen in (10, 25)
    with store._pool.connection() as connection:
        assert connection.execute("SHOW hnsw.ef_search").fetchone() == (str(chosen),)
    exact = place.open(path=path, index="none")
    assert found(place.open(path=path, min_recall=1.0), "number 50", mode="vector") == found(
        exact, "number 50", mode="vector"
    )
