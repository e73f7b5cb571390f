"""The official clients fill a store: upload, attach, wait, search, delete, as their documentation shows it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import urllib3
from ogx_client import OgxClient

from live_server import serving
from lsbuild_runtime.app import App
from small_stores import mutable_bundle, mutable_manifest
from uploading import FORM, form, part

LIMIT = 300_000
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a mutable store."""
    folder = tmp_path_factory.mktemp("uploads")
    app = App(mutable_manifest(upload=LIMIT), mutable_bundle(folder / "bundle"), state=folder / "state")
    with serving(app) as url:
        yield url


@pytest.fixture(scope="module")
def client(base: str) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    with openai.OpenAI(base_url=f"{base}/v1", api_key="unused", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def ogx(base: str) -> Iterator[Any]:
    """Llama Stack's client; untyped here, for its types are unions with other vendors' answers."""
    with OgxClient(base_url=base, max_retries=0) as opened:
        yield opened


def named(name: str, text: str) -> tuple[str, bytes]:
    """A file as the clients take it."""
    return name, text.encode()


def test_openai_files(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "pümp.md"
    path.write_text("# Pump\n\nOil it.\n")
    expiry: Any = {"anchor": "created_at", "seconds": 3600}
    file = client.files.create(file=path, purpose="assistants", expires_after=expiry)
    assert (file.filename, file.bytes, file.purpose) == ("pümp.md", 16, "assistants")
    assert file.expires_at == file.created_at + 3600
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == path.read_bytes()
    other = client.files.create(file=named("b.txt", "x"), purpose="user_data")
    assert [one.id for one in client.files.list(limit=1)] == [other.id, file.id]
    assert [one.id for one in client.files.list(purpose="user_data")] == [other.id]
    for one in (file, other):
        assert client.files.delete(one.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_openai_vector_stores(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(
        name="support", metadata={"team": "x"}, expires_after={"anchor": "last_active_at", "days": 7}
    )
    assert (store.status, store.file_counts.total) == ("completed", 0)
    file = client.files.create(file=named("a.md", "# Pump\n\nThe red pump needs oil.\n"), purpose="assistants")
    done = client.vector_stores.files.create_and_poll(
        file.id, vector_store_id=store.id, attributes={"lang": "en"}, poll_interval_ms=20
    )
    assert (done.status, done.attributes) == ("completed", {"lang": "en"})
    other = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id,
        file=named("b.txt", "Zigzag valves close slowly."),
        poll_interval_ms=20,
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}},
    )
    strategy: Any = other.chunking_strategy
    assert strategy.static.max_chunk_size_tokens == 100
    hits = client.vector_stores.search(
        store.id,
        query=["zigzag", "valves"],
        filters={"type": "eq", "key": "lang", "value": "en"},
        ranking_options={"ranker": "default-2024-11-15", "score_threshold": 0.0},
    )
    assert [hit.content[0].text for hit in hits] == ["The red pump needs oil."]
    updated = client.vector_stores.files.update(file.id, vector_store_id=store.id, attributes={"lang": "de"})
    assert updated.attributes == {"lang": "de"}
    assert {one.id for one in client.vector_stores.files.list(store.id, filter="completed")} == {file.id, other.id}
    content = client.vector_stores.files.content(file.id, vector_store_id=store.id)
    assert [one.text for one in content] == ["The red pump needs oil."]
    assert client.vector_stores.files.delete(file.id, vector_store_id=store.id).deleted
    assert client.vector_stores.update(store.id, name="renamed").name == "renamed"
    assert store.id in [one.id for one in client.vector_stores.list(limit=1)]
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.vector_stores.retrieve(store.id)
    assert caught.value.code == "vector_store_not_found"


def test_openai_file_batches(client: openai.OpenAI) -> None:
    store = client.vector_stores.create()
    files = [client.files.create(file=named(f"{n}.txt", f"alpha {n}"), purpose="assistants") for n in range(3)]
    batch = client.vector_stores.file_batches.create_and_poll(
        store.id, file_ids=[file.id for file in files], attributes={"lot": 1}, poll_interval_ms=20
    )
    assert (batch.status, batch.file_counts.completed) == ("completed", 3)
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=2)
    assert {one.id for one in listed} == {file.id for file in files}
    streams = [("x.txt", io.BytesIO(b"omega")), ("y.exe", io.BytesIO(b"MZ"))]
    uploaded = client.vector_stores.file_batches.upload_and_poll(store.id, files=streams, poll_interval_ms=20)
    assert (uploaded.file_counts.completed, uploaded.file_counts.failed) == (1, 1)
    failed = next(iter(client.vector_stores.files.list(store.id, filter="failed")))
    assert failed.last_error is not None
    assert failed.last_error.code == "unsupported_file"
    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert cancelled.file_counts.completed == 3  # what is stored stays


def test_openai_refusals(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.vector_stores.files.create("manuals", file_id="file-x")
    assert caught.value.code == "vector_store_read_only"
    with pytest.raises(openai.NotFoundError) as missing:
        client.vector_stores.files.create("notes", file_id="file-x")
    assert missing.value.code == "file_not_found"
    with pytest.raises(openai.BadRequestError) as odd:
        client.files.create(file=named("a.txt", "x"), purpose="fun")  # type: ignore[arg-type]
    assert odd.value.param == "purpose"


def test_ogx_fills_a_store(ogx: Any) -> None:
    extra = {"provider_id": "notebook", "embedding_model": "letters", "embedding_dimension": 26}
    store = ogx.vector_stores.create(name="mine", extra_body=extra)
    assert store.metadata["embedding_model"] == "letters"
    file = ogx.files.create(file=named("a.txt", "alpha beta"), purpose="assistants")
    queued = ogx.vector_stores.files.create(store.id, file_id=file.id, attributes={"lang": "en"})
    assert queued.status in ("in_progress", "completed")
    chunk = {
        "content": "zigzag", "chunk_id": "c1", "metadata": {"document_id": "d1"}, "embedding": [1.0] * 26,
        "chunk_metadata": {"document_id": "d1", "source": "z.md"}, "embedding_model": "letters", "embedding_dimension": 26,
    }  # fmt: skip
    ogx.vector_io.insert(vector_store_id=store.id, chunks=[chunk])
    answer = ogx.vector_io.query(vector_store_id=store.id, query="zigzag", params={"max_chunks": 5, "mode": "vector"})
    assert answer.chunks[0].content in ("zigzag", "alpha beta")
    assert len(answer.scores) == len(answer.chunks)
    page = ogx.vector_stores.search(store.id, query="zigzag", ranking_options={"ranker": "weighted", "alpha": 0.5})
    assert any(hit.filename == "z.md" for hit in page.data)
    assert ogx.vector_stores.files.retrieve("d1", vector_store_id=store.id).status == "completed"
    assert ogx.files.delete(file.id).deleted
    assert ogx.vector_stores.delete(store.id).deleted


def post(base: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own."""
    with urllib3.PoolManager(retries=False, timeout=30) as pool:
        answer = pool.request("POST", f"{base}{path}", body=body, headers=headers, chunked=not isinstance(body, bytes))
        return answer.status, answer.data


def test_an_upload_has_a_limit_of_its_own(base: str) -> None:
    """A file may be larger than other bodies; one byte more than the limit is 413 with the number."""
    purpose = part("purpose", "assistants")
    around = len(form(purpose, part("file", "", "a.bin")))
    fits = form(purpose, part("file", b"x" * (LIMIT - around), "a.bin"))
    assert post(base, "/v1/files", fits, FORM)[0] == 200
    status, body = post(base, "/v1/files", b"-" * (LIMIT + 1), FORM)
    assert (status, str(LIMIT).encode() in body) == (413, True)
    assert post(base, "/v1/files", (b"y" * 50_000 for _ in range(7)), FORM)[0] == 413
    assert post(base, "/v1/embeddings", b" " * ((1 << 20) + 1), JSON)[0] == 413


def test_more_uploads_than_workers_wait_for_their_turn(tmp_path: Path) -> None:
    manifest = mutable_manifest(concurrency=1, queue=8)
    app = App(manifest, mutable_bundle(tmp_path / "bundle"), state=tmp_path / "state")
    with serving(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        streams = [(f"{place}.txt", io.BytesIO(b"alpha " * 500)) for place in range(8)]
        done = client.vector_stores.file_batches.upload_and_poll(
            "notes", files=streams, max_concurrency=8, poll_interval_ms=50
        )
        assert done.file_counts.completed == 8


def test_a_204_has_no_body_on_the_wire(base: str) -> None:
    with urllib3.HTTPConnectionPool("127.0.0.1", int(base.rpartition(":")[2]), maxsize=1, retries=False) as pool:
        chunks = {"vector_store_id": "notes", "chunks": [{"content": "x"}]}
        answer = pool.request("POST", "/v1/vector-io/insert", json=chunks)
        assert (answer.status, answer.data, answer.headers.get("content-length")) == (204, b"", None)
        assert pool.request("GET", "/v1/health").json() == {"status": "OK"}
        assert pool.num_connections == 1  # the connection could be used on
