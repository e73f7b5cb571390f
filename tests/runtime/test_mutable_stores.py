"""Stores that clients create and fill: OpenAI's vector_stores, their files and batches, and what becomes of them in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_server import eventually
from lsbuild_runtime.app import App
from runtime_asking import Answer, asked
from small_services import small_manifest
from small_stores import mutable_manifest
from uploading import attached, created, opened, settled, texts, upload, uploaded

DAY = 86_400
MANUAL = "# Pumps\n\nThe red pump needs oil every week.\n\n# Valves\n\nA zigzag valve closes slowly.\n"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An application that keeps state."""
    with opened(tmp_path) as made:
        yield made


def ids(answer: Answer) -> list[str]:
    """The ids of a list."""
    assert answer.status == 200, answer.body
    return [one["id"] for one in answer.json["data"]]


def test_from_an_upload_to_a_citation(app: App) -> None:
    store, file = created(app, name="mine"), uploaded(app, "manual.md", MANUAL)
    queued = attached(app, store, file, attributes={"lang": "en", "year": 2024})
    assert queued["status"] == "in_progress"
    assert queued["chunking_strategy"] == {
        "type": "static", "static": {"max_chunk_size_tokens": 24, "chunk_overlap_tokens": 4},
    }  # fmt: skip
    done = settled(app, store, file)
    assert (done["status"], done["last_error"], done["usage_bytes"]) == ("completed", None, len(MANUAL))
    assert done["attributes"] == {"lang": "en", "year": 2024}
    page = asked(app, "POST", f"/v1/vector_stores/{store}/search", {"query": "zigzag valve"}).json
    hit = page["data"][0]
    assert (hit["file_id"], hit["filename"]) == (file, "manual.md")
    assert hit["content"] == [{"type": "text", "text": "A zigzag valve closes slowly."}]
    assert (hit["attributes"]["heading"], hit["attributes"]["line_start"]) == ("Valves", 7)
    content = asked(app, "GET", f"/v1/vector_stores/{store}/files/{file}/content").json
    assert [one["text"] for one in content["data"]] == [
        "The red pump needs oil every week.",
        "A zigzag valve closes slowly.",
    ]
    shown = asked(app, "GET", f"/v1/vector_stores/{store}").json
    assert (shown["name"], shown["status"], shown["usage_bytes"]) == ("mine", "completed", len(MANUAL))
    assert shown["file_counts"] == {"completed": 1, "total": 1, "cancelled": 0, "failed": 0, "in_progress": 0}
    assert shown["metadata"] == {"provider_id": "notebook", "embedding_model": "letters", "embedding_dimension": "26"}


def test_two_uploads_of_one_name_do_not_share_passages(app: App) -> None:
    store = created(app)
    for _ in range(2):
        file = uploaded(app, "manual.md", MANUAL)
        attached(app, store, file)
        settled(app, store, file)
    assert texts(app, store, "zigzag valve", max_num_results=2) == ["A zigzag valve closes slowly."] * 2


def test_a_store_is_made_with_files_and_found_in_the_list(app: App) -> None:
    file = uploaded(app, "a.txt", "alpha")
    store = created(app, name="first", file_ids=[file], metadata={"team": "x"}, description="what it is for")
    other = created(app)
    settled(app, store, file)
    assert ids(asked(app, "GET", "/v1/vector_stores"))[2:] == ["notes", "manuals"]
    assert set(ids(asked(app, "GET", "/v1/vector_stores"))[:2]) == {store, other}
    assert ids(asked(app, "GET", "/v1/vector_stores", query={"order": "asc", "limit": "2"})) == ["manuals", "notes"]
    page = asked(app, "GET", "/v1/vector_stores", query={"order": "asc", "after": "manuals", "before": store})
    assert ids(page) == ["notes"] or ids(page) == ["notes", other]
    assert asked(app, "GET", f"/v1/vector_stores/{store}").json["metadata"]["team"] == "x"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"file_ids": ["file-no"]}, "file_ids[0]"),
        ({"provider_id": "faiss"}, "provider_id"),
        ({"embedding_model": "other"}, "embedding_model"),
        ({"embedding_dimension": 384}, "embedding_dimension"),
        ({"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor"),
        ({"expires_after": {"days": 0}}, "expires_after.days"),
        ({"metadata": {str(place): "x" for place in range(17)}}, "metadata"),
        ({"metadata": {"x" * 65: "y"}}, "metadata"),
        ({"chunking_strategy": {"type": "contextual", "contextual": {}}}, "chunking_strategy.type"),
        ({"chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 99}}}, None),
        (
            {
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51},
                }
            },
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_store_that_cannot_be_made_is_refused_and_not_there(
    app: App, body: dict[str, Any], param: str | None
) -> None:
    answer = asked(app, "POST", "/v1/vector_stores", body)
    assert answer.status == (404 if "file_ids" in body else 400), answer.body
    if param:
        assert answer.error["param"] is not None
        assert answer.error["param"].split("[")[0] == param.split("[")[0] or answer.error["param"] == param
    assert ids(asked(app, "GET", "/v1/vector_stores")) == ["notes", "manuals"]


def test_llama_stacks_choice_of_provider_and_model_is_honoured(app: App) -> None:
    store = created(app, provider_id="notebook", embedding_model="letters", embedding_dimension=26)
    assert asked(app, "GET", f"/v1/vector_stores/{store}").json["metadata"]["embedding_model"] == "letters"


def test_a_store_is_renamed_and_deleted(app: App) -> None:
    store = created(app, name="old", metadata={"a": "b"})
    renamed = asked(app, "POST", f"/v1/vector_stores/{store}", {"name": "new", "expires_after": {"days": 3}}).json
    assert (renamed["name"], renamed["metadata"]["a"]) == ("new", "b")
    assert renamed["expires_at"] == renamed["last_active_at"] + 3 * DAY
    cleared = asked(app, "POST", f"/v1/vector_stores/{store}", {"metadata": None, "expires_after": None}).json
    assert ("a" in cleared["metadata"], cleared["expires_at"]) == (False, None)
    gone = asked(app, "DELETE", f"/v1/vector_stores/{store}").json
    assert gone == {"id": store, "object": "vector_store.deleted", "deleted": True}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/search"), ("GET", "/files")):
        answer = asked(app, method, f"/v1/vector_stores/{store}{path}", {"query": "x"})
        assert (answer.status, answer.error["code"]) == (404, "vector_store_not_found")


def test_a_store_expires_when_it_is_not_used(tmp_path: Path) -> None:
    now = [1_000_000.0]
    with opened(tmp_path, clock=lambda: now[0]) as app:
        short = created(app, name="short", expires_after={"anchor": "last_active_at", "days": 1})
        long = created(app, name="long", expires_after={"days": 9})
        now[0] += DAY - 1
        assert texts(app, short, "x") == []  # using it starts its time anew
        now[0] += DAY - 1
        shown = asked(app, "GET", f"/v1/vector_stores/{short}").json
        assert shown["expires_at"] == int(now[0]) + 1
        now[0] += 1
        assert asked(app, "GET", f"/v1/vector_stores/{short}").status == 404
        assert ids(asked(app, "GET", "/v1/vector_stores"))[0] == long
        assert [path.stem for path in (tmp_path / "state/notes").glob("vs_*")] == [long]


def test_an_expired_file_leaves_its_stores(tmp_path: Path) -> None:
    now = [1_000_000.0]
    with opened(tmp_path, clock=lambda: now[0]) as app:
        expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
        file = upload(app, "a.txt", "alpha", **expiry).json["id"]
        attached(app, "notes", file)
        settled(app, "notes", file)
        now[0] += 3600
        app.stores.wake()  # as its idle time does
        assert eventually(lambda: texts(app, "notes", "alpha") == ["compiled quizzical"])
        assert ids(asked(app, "GET", "/v1/vector_stores/notes/files")) == ["file-compiled"]


def test_states_lists_and_cursors_of_documents(app: App) -> None:
    store = created(app)
    good = [uploaded(app, f"{place}.txt", f"word{place}") for place in range(3)]
    bad, worse = uploaded(app, "a.exe", "MZ"), uploaded(app, "b.txt", b"\xff\xfe\xfa")
    empty = uploaded(app, "c.txt", "--- ***\n")
    for file in (*good, bad, worse, empty):
        attached(app, store, file)
        settled(app, store, file)
    failed = {file: settled(app, store, file)["last_error"] for file in (bad, worse, empty)}
    assert failed[bad]["code"] == "unsupported_file"
    assert "'.exe'" in failed[bad]["message"]
    assert failed[worse]["code"] == "invalid_file"
    assert "UTF-8" in failed[worse]["message"]
    assert failed[empty] == {
        "code": "invalid_file",
        "message": "The file holds no text. Scanned pages need text recognition first.",
    }
    path = f"/v1/vector_stores/{store}/files"
    assert set(ids(asked(app, "GET", path, query={"filter": "failed"}))) == {bad, worse, empty}
    assert set(ids(asked(app, "GET", path, query={"filter": "completed"}))) == set(good)
    everything = ids(asked(app, "GET", path, query={"order": "asc"}))
    assert everything == list(reversed(ids(asked(app, "GET", path))))
    two = asked(app, "GET", path, query={"order": "asc", "limit": "2", "after": everything[1]}).json
    assert ([one["id"] for one in two["data"]], two["has_more"]) == (everything[2:4], True)
    back = asked(app, "GET", path, query={"order": "asc", "limit": "2", "before": everything[3]}).json
    assert ([one["id"] for one in back["data"]], back["has_more"]) == (everything[1:3], True)
    assert asked(app, "GET", path, query={"filter": "odd"}).error["param"] == "filter"
    counts = asked(app, "GET", f"/v1/vector_stores/{store}").json["file_counts"]
    assert counts == {"completed": 3, "total": 6, "cancelled": 0, "failed": 3, "in_progress": 0}


def test_attributes_are_replaced_and_filtered_by(app: App) -> None:
    store = created(app)
    for lang in ("en", "de"):
        file = uploaded(app, f"{lang}.txt", f"pump {lang}")
        attached(app, store, file, attributes={"lang": lang})
        settled(app, store, file)
    of_english = {"type": "eq", "key": "lang", "value": "en"}
    assert texts(app, store, "pump", filters=of_english) == ["pump en"]
    path = f"/v1/vector_stores/{store}/files/{file}"
    assert asked(app, "POST", path, {"attributes": {"lang": "en", "ok": True}}).json["attributes"] == {
        "lang": "en",
        "ok": True,
    }
    assert len(texts(app, store, "pump", filters=of_english)) == 2
    assert asked(app, "POST", path, {"attributes": None}).json["attributes"] == {}
    for attributes in ({"x": [1]}, {"x" * 65: 1}, {"x": "y" * 513}, {"x": 2**63}, {"x": None}):
        assert asked(app, "POST", path, {"attributes": attributes}).status == 400
    assert asked(app, "POST", path, {}).error["param"] == "attributes"
    assert asked(app, "POST", f"{path}x", {"attributes": {}}).status == 404


def test_a_document_leaves_the_store_and_its_file_stays(app: App) -> None:
    store, file = created(app), uploaded(app, "a.txt", "alpha beta")
    attached(app, store, file)
    settled(app, store, file)
    path = f"/v1/vector_stores/{store}/files/{file}"
    assert asked(app, "DELETE", path).json == {"id": file, "object": "vector_store.file.deleted", "deleted": True}
    assert texts(app, store, "alpha") == []
    for method in ("GET", "DELETE"):
        assert asked(app, method, path).error["code"] == "file_not_found"
    assert asked(app, "GET", f"{path}/content").status == 404
    assert asked(app, "GET", f"/v1/files/{file}").status == 200
    attached(app, store, file)
    assert settled(app, store, file)["status"] == "completed"
    assert texts(app, store, "alpha") == ["alpha beta"]


def test_a_deleted_file_leaves_all_stores(app: App) -> None:
    file, stores = uploaded(app, "a.txt", "alpha"), [created(app), created(app), "notes"]
    for store in stores:
        attached(app, store, file)
        settled(app, store, file)
    assert asked(app, "DELETE", f"/v1/files/{file}").status == 200
    for store in stores:
        assert "alpha" not in texts(app, store, "alpha")
        assert asked(app, "GET", f"/v1/vector_stores/{store}/files/{file}").status == 404


def test_the_compiled_document_of_a_mutable_store_is_one_of_its_files(app: App) -> None:
    path = "/v1/vector_stores/notes/files/file-compiled"
    shown = asked(app, "GET", path).json
    assert (shown["status"], shown["created_at"], shown["attributes"]) == ("completed", 0, {"kind": "built"})
    assert asked(app, "POST", path, {"attributes": {"kind": "new"}}).json["attributes"] == {"kind": "new"}
    file = uploaded(app, "a.txt", "alpha")
    attached(app, "notes", file)
    settled(app, "notes", file)
    assert ids(asked(app, "GET", "/v1/vector_stores/notes/files")) == [file, "file-compiled"]
    assert texts(app, "notes", "quizzical", max_num_results=1) == ["compiled quizzical"]
    assert asked(app, "DELETE", path).status == 200
    assert texts(app, "notes", "quizzical") == ["alpha"]
    assert asked(app, "GET", path).status == 404
    for method, store_path in (("POST", ""), ("DELETE", "")):
        answer = asked(app, method, f"/v1/vector_stores/notes{store_path}", {})
        assert (answer.status, answer.error["code"]) == (400, "vector_store_read_only")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/vector_stores/manuals/files", {"file_id": "file-1"}),
        ("GET", "/v1/vector_stores/manuals/files", None),
        ("DELETE", "/v1/vector_stores/manuals/files/file-1", None),
        ("POST", "/v1/vector_stores/manuals/files/file-1", {"attributes": {}}),
        ("POST", "/v1/vector_stores/manuals/file_batches", {"file_ids": ["file-1"]}),
        ("POST", "/v1/vector-io/insert", {"vector_store_id": "manuals", "chunks": [{"content": "x"}]}),
    ],
)
def test_a_store_that_was_compiled_read_only_says_what_the_spec_lacks(
    app: App, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = asked(app, method, path, body)
    assert (answer.status, answer.error["code"]) == (400, "vector_store_read_only")
    assert "mutable: true" in answer.error["message"]


def test_without_a_mutable_store_none_can_be_created(tmp_path: Path) -> None:
    answer = asked(App(small_manifest(), tmp_path), "POST", "/v1/vector_stores", {"name": "x"})
    assert (answer.status, answer.error["code"]) == (400, "no_mutable_store")
    assert "mutable: true" in answer.error["message"]


def test_without_state_the_artifacts_own_stores_are_still_listed(tmp_path: Path) -> None:
    app = App(mutable_manifest(), tmp_path)
    assert asked(app, "GET", "/v1/vector_stores/manuals").status == 200
    answer = asked(app, "POST", "/v1/vector_stores", {})
    assert answer.status == 503
    assert "--state" in answer.error["message"]
    assert asked(app, "GET", "/v1/vector_stores/vs_1").status == 404


def test_looking_makes_no_database(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        app.start()
        assert asked(app, "GET", "/v1/vector_stores").status == 200
        assert asked(app, "GET", "/v1/vector_stores/notes/files").status == 200
        assert not (tmp_path / "state/uploads").exists()
        assert "uploads" not in {thread.name for thread in threading.enumerate()}


def batch_of(app: App, store: str, batch: str) -> Any:
    """The batch as soon as it is not in progress."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = asked(app, "GET", f"/v1/vector_stores/{store}/file_batches/{batch}").json
        if found["status"] != "in_progress":
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def test_a_batch_with_attributes_of_all_and_of_each(app: App) -> None:
    store = created(app)
    files = [uploaded(app, f"{place}.txt", f"alpha {place}") for place in range(4)]
    files.append(uploaded(app, "x.exe", "MZ"))
    path = f"/v1/vector_stores/{store}/file_batches"
    first = asked(app, "POST", path, {"file_ids": files[:2], "attributes": {"lot": 1}}).json
    assert (first["object"], first["status"]) == ("vector_store.files_batch", "in_progress")
    each = [{"file_id": file, "attributes": {"lot": place}} for place, file in enumerate(files[2:], 2)]
    second = asked(app, "POST", path, {"files": each}).json
    assert batch_of(app, store, first["id"])["file_counts"]["completed"] == 2
    done = batch_of(app, store, second["id"])
    assert (done["status"], done["file_counts"]) == (
        "completed",
        {"completed": 2, "total": 3, "cancelled": 0, "failed": 1, "in_progress": 0},
    )
    listed = f"{path}/{second['id']}/files"
    assert set(ids(asked(app, "GET", listed))) == set(files[2:])
    assert ids(asked(app, "GET", listed, query={"filter": "failed"})) == [files[4]]
    assert texts(app, store, "alpha", filters={"type": "eq", "key": "lot", "value": 3}) == ["alpha 3"]
    assert asked(app, "GET", f"{path}/vsfb_none").error["code"] == "file_batch_not_found"
    assert asked(app, "GET", f"/v1/vector_stores/notes/file_batches/{first['id']}").status == 404


def test_a_batch_with_an_unknown_file_queues_nothing(app: App) -> None:
    store, file = created(app), uploaded(app, "a.txt", "x")
    path = f"/v1/vector_stores/{store}/file_batches"
    assert asked(app, "POST", path, {"file_ids": [file, "file-none"]}).status == 404
    assert ids(asked(app, "GET", f"/v1/vector_stores/{store}/files")) == []
    bodies: list[Any] = [
        {},
        {"file_ids": []},
        {"file_ids": [file, file]},
        {"file_ids": [file], "files": [{"file_id": file}]},
    ]
    for body in bodies:
        assert asked(app, "POST", path, body).status == 400
    answer = asked(app, "POST", path, {"files": [{"file_id": file}], "attributes": {}})
    assert answer.error["param"] == "attributes"


def test_searches_go_on_while_files_come(app: App) -> None:
    """Eight threads upload and attach, four search: nothing fails, and all of it is found at the end."""
    store = created(app)
    faults: list[str] = []
    coming = threading.Event()
    files: list[str] = []

    def bring(number: int) -> None:
        for place in range(4):
            answer = upload(app, f"{number}-{place}.txt", f"thing{number}x{place}")
            queued = asked(app, "POST", f"/v1/vector_stores/{store}/files", {"file_id": answer.json["id"]})
            files.append(answer.json["id"])
            if queued.status != 200:
                faults.append(queued.body.decode())

    def look() -> None:
        while not coming.is_set():
            for path in (f"/v1/vector_stores/{store}/files", "/v1/vector_stores", "/v1/files"):
                answer = asked(app, "GET", path)
                if answer.status != 200:
                    faults.append(answer.body.decode())
            texts(app, store, "thing")

    readers = [threading.Thread(target=look) for _ in range(4)]
    writers = [threading.Thread(target=bring, args=(number,)) for number in range(8)]
    for thread in (*readers, *writers):
        thread.start()
    try:
        for thread in writers:
            thread.join()
        for file in files:
            assert settled(app, store, file, 60)["status"] == "completed"
    finally:
        coming.set()
        for thread in readers:
            thread.join()
    assert faults == []
    assert len(texts(app, store, "thing", max_num_results=50)) == 32
