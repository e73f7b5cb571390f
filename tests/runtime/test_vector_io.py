"""Llama Stack's insert and query: chunks with and without vectors of their own, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsbuild_runtime.app import App
from runtime_asking import Answer, asked
from uploading import created, opened, texts


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An application that keeps state."""
    with opened(tmp_path) as made:
        yield made


def insert(app: App, store: str, *chunks: dict[str, Any], **body: Any) -> Answer:
    """POST /v1/vector-io/insert."""
    return asked(app, "POST", "/v1/vector-io/insert", {"vector_store_id": store, "chunks": chunks, **body})


def query(app: App, store: str, text: Any, **params: Any) -> Any:
    """The answer of POST /v1/vector-io/query."""
    body = {"vector_store_id": store, "query": text, "params": params or None}
    answer = asked(app, "POST", "/v1/vector-io/query", body)
    assert answer.status == 200, answer.body
    return answer.json


def unit(place: int) -> list[float]:
    """A vector that points one way."""
    return [1.0 if index == place else 0.0 for index in range(26)]


def test_chunks_are_found_as_soon_as_they_are_acknowledged(app: App) -> None:
    store = created(app)
    answer = insert(
        app,
        store,
        {"content": "alpha beta", "chunk_id": "c1", "metadata": {"document_id": "doc-1", "lang": "en"}},
        {"content": {"type": "text", "text": "gamma"}, "chunk_metadata": {"document_id": "doc-2", "source": "g.md"}},
        {"content": [{"type": "text", "text": "zzz"}, {"type": "text", "text": "yyy"}]},
    )
    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers
    found = query(app, store, "alpha beta", max_chunks=1)
    assert len(found["chunks"]) == 1
    chunk = found["chunks"][0]
    assert (chunk["content"], chunk["chunk_id"]) == ("alpha beta", "c1")
    assert chunk["metadata"] == {"document_id": "doc-1", "filename": "doc-1", "lang": "en"}
    assert chunk["chunk_metadata"]["document_id"] == "doc-1"
    assert (chunk["embedding_model"], chunk["embedding_dimension"]) == ("letters", 26)
    assert 0.9 < found["scores"][0] <= 1
    assert query(app, store, "gamma")["chunks"][0]["metadata"]["filename"] == "g.md"
    assert query(app, store, {"type": "text", "text": "zzz yyy"}, max_chunks=1)["chunks"][0]["content"] == "zzz\nyyy"
    listed = asked(app, "GET", f"/v1/vector_stores/{store}/files").json["data"]
    assert {one["id"] for one in listed} > {"doc-1", "doc-2"}
    assert texts(app, store, "x", filters={"type": "eq", "key": "lang", "value": "en"}) == ["alpha beta"]


def test_a_chunk_takes_the_place_of_the_one_with_its_id(app: App) -> None:
    store, place = created(app), {"document_id": "d"}
    insert(app, store, {"content": "old", "chunk_id": "c", "metadata": place}, {"content": "other", "metadata": place})
    insert(app, store, {"content": "new", "chunk_id": "c", "metadata": place})
    assert sorted(texts(app, store, "x")) == ["new", "other"]


def test_given_vectors_are_used_as_directions(app: App) -> None:
    store = created(app)
    given = {"embedding_model": "letters", "embedding_dimension": 26}
    near = {"content": "says nothing of it", "chunk_id": "near", "embedding": [7 * x for x in unit(16)], **given}
    far = {"content": "qqqq is only its text", "chunk_id": "far", "embedding": unit(0), **given}
    assert insert(app, store, near, far).status == 204
    found = query(app, store, "qqqq", max_chunks=2)
    assert [chunk["chunk_id"] for chunk in found["chunks"]] == ["near", "far"]
    assert found["scores"][0] == pytest.approx(1, abs=1e-3)
    assert query(app, store, "qqqq", score_threshold=0.5)["scores"] == found["scores"][:1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embedding": [1.0, 2.0]}, ("2 dimensions", "26")),
        ({"embedding_dimension": 384}, ("384", "26")),
        ({"embedding": unit(0), "embedding_model": "other"}, ("other", "letters")),
        ({"embedding": [0.0] * 26}, ("zeros",)),
        ({"embedding": [1e300, *[0.0] * 25]}, ("infinite",)),
        ({"content": "  "}, ("content",)),
        ({"content": {"type": "image", "image": {}}}, ("content",)),
        ({"content": []}, ("content",)),
        ({"metadata": {"x": [1]}}, ("metadata.x",)),
        ({"metadata": {"x": None}}, ("metadata.x",)),
        ({"metadata": {"x": 2**64}}, ("metadata.x",)),
        ({"surprise": 1}, ("surprise",)),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused_by_name(app: App, change: dict[str, Any], words: tuple[str, ...]) -> None:
    store = created(app)
    answer = insert(app, store, {"content": "alpha"}, {"content": "beta", **change})
    assert answer.status == 400, answer.body
    assert answer.error["param"].startswith("chunks[1]")
    assert all(word in answer.error["message"] for word in words), answer.error
    assert texts(app, store, "alpha") == []


def test_what_is_no_insert_is_refused(app: App) -> None:
    store, chunk = created(app), {"content": "x", "chunk_id": "c"}
    assert insert(app, store).error["param"] == "chunks"
    assert insert(app, store, chunk, chunk).error["param"] == "chunks[1].chunk_id"
    assert insert(app, store, chunk, ttl_seconds=9).error["param"] == "ttl_seconds"
    assert insert(app, "vs_no", chunk).status == 404
    both = [{"content": text, "metadata": {"document_id": "d", "page": page}} for page, text in enumerate("ab")]
    assert "attributes belong to the document" in insert(app, store, *both).error["message"]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"max_chunks": 0}, "params.max_chunks"),
        ({"mode": "odd"}, "params.mode"),
        ({"ranker": "neural"}, "params.ranker"),
        ({"ranker": {"type": "rrf", "impact_factor": 10}}, "params.impact_factor"),
        ({"ranker": {"type": "rrf", "alpha": 0.5}}, "params.alpha"),
        ({"ranker": {"type": "weighted", "alpha": 2}}, "params.ranker.alpha"),
        ({"ranker": "weighted", "mode": "vector"}, "search_mode"),
        ({"k": 3}, "params.k"),
    ],
)
def test_params_that_cannot_be_honoured_are_named(app: App, params: dict[str, Any], param: str) -> None:
    body = {"vector_store_id": "notes", "query": "x", "params": params}
    answer = asked(app, "POST", "/v1/vector-io/query", body)
    assert (answer.status, answer.error["param"]) == (400, param)
