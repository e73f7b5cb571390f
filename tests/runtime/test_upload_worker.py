"""The worker behind uploads: nothing is lost by kill -9, nothing is read twice, and what is given up leaves no trace."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import upload_process
from live_server import eventually
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError
from runtime_asking import asked
from small_stores import GatedLetters
from uploading import attached, created, opened, settled, texts, uploaded


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An application that keeps state."""
    with opened(tmp_path) as made:
        yield made


def encoder(app: App) -> GatedLetters:
    """Its encoder."""
    found: GatedLetters = app.services.get("embeddings", "letters")
    return found


def rows(folder: Path, sql: str) -> list[Any]:
    """What the database of uploads holds."""
    db = apsw.Connection(str(folder / "state/uploads/uploads.sqlite"))
    try:
        found: list[Any] = db.execute(sql).fetchall()
        return found
    finally:
        db.close()


def gated(app: App) -> tuple[str, str]:
    """A store and a file of it that the worker is reading just now: it stands before the closed gate."""
    encoder(app).gate.clear()
    store, file = created(app), uploaded(app, "a.txt", "alpha")
    attached(app, store, file)
    assert encoder(app).waiting.wait(20)
    return store, file


def test_a_file_deleted_while_it_is_read_never_appears(tmp_path: Path, app: App) -> None:
    store, file = gated(app)
    assert asked(app, "DELETE", f"/v1/vector_stores/{store}/files/{file}").status == 200
    assert asked(app, "GET", f"/v1/vector_stores/{store}/files").json["data"] == []
    encoder(app).gate.set()
    assert eventually(lambda: rows(tmp_path, "SELECT 1 FROM attached") == [])
    assert texts(app, store, "alpha") == []


def test_a_batch_cancelled_while_it_is_read_never_appears(tmp_path: Path, app: App) -> None:
    encoder(app).gate.clear()
    store, files = created(app), [uploaded(app, f"{place}.txt", "alpha") for place in range(3)]
    path = f"/v1/vector_stores/{store}/file_batches"
    batch = asked(app, "POST", path, {"file_ids": files}).json["id"]
    assert encoder(app).waiting.wait(20)
    cancelled = asked(app, "POST", f"{path}/{batch}/cancel").json
    assert (cancelled["status"], cancelled["file_counts"]["cancelled"]) == ("cancelled", 3)
    encoder(app).gate.set()
    assert eventually(lambda: rows(tmp_path, "SELECT 1 FROM attached WHERE todo = 1") == [])
    assert texts(app, store, "alpha") == []
    assert settled(app, store, files[0])["status"] == "cancelled"
    attached(app, store, files[0])
    assert settled(app, store, files[0])["status"] == "completed"


def test_attributes_changed_while_the_file_is_read_are_those_it_gets(app: App) -> None:
    store, file = gated(app)
    path = f"/v1/vector_stores/{store}/files/{file}"
    assert asked(app, "POST", path, {"attributes": {"v": 2}}).json["status"] == "in_progress"
    encoder(app).gate.set()
    assert settled(app, store, file)["attributes"] == {"v": 2}


def test_a_store_deleted_while_its_file_is_read_takes_it_along(tmp_path: Path, app: App) -> None:
    store, file = gated(app)
    assert asked(app, "DELETE", f"/v1/vector_stores/{store}").status == 200
    encoder(app).gate.set()
    other = created(app)
    attached(app, other, file)
    assert settled(app, other, file)["status"] == "completed"
    assert rows(tmp_path, "SELECT store FROM attached") == [(other,)]


def test_an_older_version_is_found_until_the_new_one_is_stored(app: App) -> None:
    store, file = created(app), uploaded(app, "a.txt", "alpha beta gamma")
    attached(app, store, file)
    settled(app, store, file)
    encoder(app).waiting.clear()
    encoder(app).gate.clear()
    sizes = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    attached(app, store, file, chunking_strategy=sizes, attributes={"v": 2})
    assert encoder(app).waiting.wait(20)
    shown = asked(app, "GET", f"/v1/vector_stores/{store}").json
    assert shown["status"] == "in_progress"
    assert shown["file_counts"] == {"completed": 0, "total": 1, "cancelled": 0, "failed": 0, "in_progress": 1}
    encoder(app).gate.set()
    done = settled(app, store, file)
    assert (done["attributes"], done["chunking_strategy"]) == ({"v": 2}, sizes)
    assert texts(app, store, "alpha") == ["alpha beta gamma"]


def test_a_model_that_is_overloaded_for_a_moment_is_asked_again(app: App) -> None:
    encoder(app).faults.append(ApiError(429, "busy", code="queue_full"))
    store, file = created(app), uploaded(app, "a.txt", "alpha")
    attached(app, store, file)
    assert settled(app, store, file)["status"] == "completed"


def test_what_was_put_off_and_is_not_wanted_any_more_is_forgotten(app: App) -> None:
    encoder(app).faults.append(ApiError(503, "the model cannot be reached", code="service_unavailable"))
    store, file = created(app), uploaded(app, "a.txt", "alpha")
    attached(app, store, file)
    worker = app.stores._worker
    assert worker is not None
    assert eventually(lambda: worker._later)
    attached(app, store, file)
    assert settled(app, store, file)["status"] == "completed"
    assert eventually(lambda: not worker._later)


def test_a_refusal_of_the_model_is_final_and_told(app: App) -> None:
    encoder(app).faults.append(ApiError(400, "input: longer than 10000 characters", param="input"))
    store, file = created(app), uploaded(app, "a.txt", "alpha")
    attached(app, store, file)
    done = settled(app, store, file)
    assert done["status"] == "failed"
    assert done["last_error"] == {"code": "invalid_file", "message": "input: longer than 10000 characters"}


def test_a_fault_of_a_provider_fails_its_file_and_no_other(app: App) -> None:
    encoder(app).faults.append(ZeroDivisionError("a fault of the encoder"))
    store = created(app)
    files = [uploaded(app, f"{place}.txt", "alpha") for place in range(2)]
    for file in files:
        attached(app, store, file)
    assert settled(app, store, files[0])["last_error"]["code"] == "server_error"
    assert settled(app, store, files[1])["status"] == "completed"


def test_a_file_that_ended_the_process_too_often_is_failed(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        store, file = gated(app)
    assert rows(tmp_path, "SELECT status, tries FROM attached") == [("in_progress", 0)]  # an orderly stop is no try
    with apsw.Connection(str(tmp_path / "state/uploads/uploads.sqlite")) as db:
        db.execute("UPDATE attached SET tries = 4")
    with opened(tmp_path) as app:
        app.start()
        done = settled(app, store, file)
        assert done["last_error"]["message"].startswith("Tried 4 times")


def test_two_servers_on_one_state_folder_read_each_file_once(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second:
        store = created(first)
        files = [uploaded(app, f"{place}.txt", f"thing{place}") for place in range(6) for app in (first, second)]
        for place, file in enumerate(files):
            attached((first, second)[place % 2], store, file)
        for file in files:
            assert settled(second, store, file)["status"] == "completed"
        assert sorted(encoder(first).embedded + encoder(second).embedded) == sorted(f"thing{n // 2}" for n in range(12))


class Process:
    """upload_process.py, until it is killed."""

    def __init__(self, folder: Path, gate: str, count: int) -> None:
        self.said = folder / "said.txt"
        self.said.write_text("")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, upload_process.__file__, str(folder), gate, str(count)],
                stdin=subprocess.PIPE, stdout=said, env=environment,
            )  # fmt: skip

    def kill(self) -> list[str]:
        """kill -9; returns what it had acknowledged by then."""
        self.process.kill()
        self.process.communicate()
        return [line for line in self.said.read_text().split("\n")[:-1] if line != "ready"]


def test_what_was_queued_before_kill_9_is_read_by_the_next_server(tmp_path: Path) -> None:
    process = Process(tmp_path, "closed", 2)
    assert eventually(lambda: "ready" in process.said.read_text(), 60)
    store, *files = process.kill()
    assert len(files) == 2
    with opened(tmp_path) as app:
        app.start()
        for file in files:
            assert settled(app, store, file)["status"] == "completed"
        assert len(texts(app, store, "thing", max_num_results=50)) > 0


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five servers are killed at random moments while files come and are read; the sixth has them all, whole."""
    monkeypatch.setattr("lsbuild_runtime.uploads.worker.MOST_TRIES", upload_process.KILLS + 1)
    chance = random.Random(20261122)
    acknowledged: list[tuple[str, str]] = []
    for _ in range(upload_process.KILLS):
        process = Process(tmp_path, "open", 1000)
        assert eventually(lambda said=process.said: said.read_text().count("\n") > 1, 60)
        time.sleep(chance.random() * 0.5)
        store, *files = process.kill()
        acknowledged += [(store, file) for file in files]
    assert len(acknowledged) >= upload_process.KILLS
    assert rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    with opened(tmp_path) as app:
        app.start()
        for store, file in acknowledged:
            assert settled(app, store, file, 60)["status"] == "completed"
            assert asked(app, "GET", f"/v1/files/{file}/content").body.endswith(b"\n\n")
        path = f"/v1/vector_stores/{store}/files/{file}/content"
        assert asked(app, "GET", path).json["data"][0]["text"].startswith("thing number ")
