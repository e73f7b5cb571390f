"""Whatever a client sends to the routes that write, the answer is never a 5xx, and an error always has OpenAI's shape."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsbuild_runtime.app import App
from runtime_asking import Answer, asked
from uploading import BOUNDARY, FORM, created, form, opened, part, uploaded

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ANY_TEXT = st.text(max_size=12) | st.text(st.characters(categories=["Cs", "Cc", "Lo"]), max_size=3)
ATTRIBUTES = st.dictionaries(ANY_TEXT, LEAVES, max_size=4) | JSON
FILE_ID = st.just("FILE") | ANY_TEXT | JSON
CHUNKING = st.fixed_dictionaries(
    {"type": st.sampled_from(["auto", "static", "x"])},
    optional={
        "static": st.fixed_dictionaries(
            {},
            optional={
                "max_chunk_size_tokens": st.integers(90, 5000),
                "chunk_overlap_tokens": st.integers(-1, 3000),
            },
        )
    },
)
CHUNK = st.fixed_dictionaries(
    {"content": ANY_TEXT | st.just("alpha") | JSON},
    optional={
        "chunk_id": ANY_TEXT,
        "metadata": ATTRIBUTES,
        "chunk_metadata": st.fixed_dictionaries({}, optional={"document_id": ANY_TEXT, "source": ANY_TEXT}) | JSON,
        "embedding": st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=26, max_size=26) | JSON,
        "embedding_model": st.sampled_from(["letters", "x"]),
        "embedding_dimension": st.integers(25, 27),
    },
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "name": ANY_TEXT | JSON,
    "description": ANY_TEXT,
    "metadata": st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=4) | JSON,
    "expires_after": st.fixed_dictionaries({}, optional={"anchor": st.just("last_active_at"), "days": st.integers()}),
    "chunking_strategy": CHUNKING | JSON,
    "file_id": FILE_ID,
    "file_ids": st.lists(FILE_ID, max_size=3) | JSON,
    "files": st.lists(st.fixed_dictionaries({"file_id": FILE_ID}, optional={"attributes": ATTRIBUTES}), max_size=2),
    "attributes": ATTRIBUTES,
    "vector_store_id": st.sampled_from(["STORE", "notes", "manuals", "x"]) | JSON,
    "chunks": st.lists(CHUNK, max_size=3) | JSON,
    "query": ANY_TEXT | JSON,
    "params": st.fixed_dictionaries(
        {}, optional={"max_chunks": st.integers(), "mode": st.sampled_from(["vector", "x"]), "ranker": JSON}
    ),
    "provider_id": ANY_TEXT,
    "embedding_model": ANY_TEXT,
    "anything": JSON,
}
TEMPLATES = st.sampled_from([
    ("POST", "/v1/vector_stores", ("name", "description", "metadata", "expires_after", "chunking_strategy", "file_ids")),
    ("POST", "/v1/vector_stores/STORE", ("name", "metadata", "expires_after")),
    ("POST", "/v1/vector_stores/STORE/files", ("file_id", "attributes", "chunking_strategy")),
    ("POST", "/v1/vector_stores/STORE/files/FILE", ("attributes",)),
    ("POST", "/v1/vector_stores/notes/file_batches", ("file_ids", "files", "attributes", "chunking_strategy")),
    ("POST", "/v1/vector-io/insert", ("vector_store_id", "chunks")),
    ("POST", "/v1/vector-io/query", ("vector_store_id", "query", "params")),
])  # fmt: skip
careful = functools.partial(
    settings, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


class Site:
    """An application, a store and a file in it; the names STORE and FILE stand for their ids."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._store = created(app)
        self.file = uploaded(app, "a.txt", "alpha")

    def ask(self, method: str, path: str, body: Any = None, query: dict[str, str] | None = None) -> Answer:
        """The answer, which is checked."""
        path = path.replace("STORE", self._store).replace("FILE", self.file)
        answer = asked(self._app, method, path, self._meant(body), query)
        check(answer)
        return answer

    def send(self, body: bytes, headers: dict[str, str]) -> None:
        """Upload."""
        check(asked(self._app, "POST", "/v1/files", body, headers=headers))

    def _meant(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {encodable(key): self._meant(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._meant(item) for item in value]
        if isinstance(value, str):
            return {"STORE": self._store, "FILE": self.file}.get(value, encodable(value))
        return value


def encodable(text: str) -> str:
    """JSON bytes cannot hold half a surrogate pair as it is; how the server reads an escaped one is tested apart."""
    return text.encode("utf-8", "replace").decode()


def check(answer: Answer) -> None:
    """No 5xx; errors in OpenAI's shape."""
    assert answer.status < 500, answer.body
    if answer.status not in (200, 204) and answer.body:  # an answer to HEAD has none
        assert answer.error["message"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An application of its own."""
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    with opened(folder) as app:
        yield Site(app)


@careful(max_examples=150)
@given(target=TEMPLATES, data=st.data())
def test_objects_with_known_and_unknown_fields(site: Site, target: Any, data: st.DataObject) -> None:
    method, path, own = target
    body = data.draw(st.fixed_dictionaries({}, optional={name: FIELDS[name] for name in (*own, "anything")}))
    site.ask(method, path, body)


@careful(max_examples=80)
@given(
    method=st.sampled_from(["GET", "DELETE", "POST", "HEAD"]),
    path=st.sampled_from([
        "/v1/files", "/v1/files/FILE/content", "/v1/files/x", "/v1/vector_stores/STORE/files", "/v1/vector_stores/x",
        "/v1/vector_stores/STORE/files/x", "/v1/vector_stores/notes/files/file-compiled/content",
        "/v1/vector_stores/STORE/file_batches/x", "/v1/vector_stores/STORE/file_batches/x/cancel",
        "/v1/vector_stores/STORE/file_batches/x/files", "/v1/vector_stores",
    ]),
    query=st.dictionaries(
        st.sampled_from(["limit", "order", "after", "before", "filter", "purpose", "x"]),
        st.text(max_size=5) | st.sampled_from(["asc", "1", "failed", "FILE"]), max_size=3,
    ),
)  # fmt: skip
def test_paths_and_queries(site: Site, method: str, path: str, query: dict[str, str]) -> None:
    site.ask(method, path, {"name": "x"} if method == "POST" else None, query)


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.builds(
            part,
            st.sampled_from(["file", "purpose", "x", ""]),
            st.binary(max_size=20),
            st.none() | ANY_TEXT.map(encodable),
        ),
        st.sampled_from([f"--{BOUNDARY}--".encode(), f"--{BOUNDARY}\r\n".encode(), b"\r\n", part("purpose", "assistants")]),
    ),
    max_size=5,
)  # fmt: skip


@careful(max_examples=150)
@given(pieces=PIECES, whole=st.booleans())
def test_forms(site: Site, pieces: list[bytes], whole: bool) -> None:
    site.send(form(*pieces) if whole else b"".join(pieces), FORM)


@careful(max_examples=60)
@given(kind=st.text(max_size=40) | st.text(max_size=20).map("multipart/form-data; boundary={}".format))
def test_content_types(site: Site, kind: str) -> None:
    site.send(form(part("purpose", "assistants"), part("file", "x", "a.txt")), {"content-type": kind})


@pytest.mark.parametrize("escaped", [b'"\\ud800x"', b'"\\udc00"', b'"a\\ud83d"'])
def test_half_a_surrogate_pair_is_a_fault_of_the_client(site: Site, escaped: bytes) -> None:
    for path, body in (
        ("/v1/vector_stores", b'{"name": %s}'),
        ("/v1/vector_stores", b'{"metadata": {"a": %s}}'),
        ("/v1/vector_stores/STORE/files", b'{"file_id": "FILE", "attributes": {"a": %s}}'),
        ("/v1/vector_stores/STORE/files", b'{"file_id": %s}'),
        ("/v1/vector-io/insert", b'{"vector_store_id": "notes", "chunks": [{"content": "a", "chunk_id": %s}]}'),
        ("/v1/vector-io/query", b'{"vector_store_id": "notes", "query": %s}'),
    ):
        answer = site.ask("POST", path, (body % escaped).replace(b"FILE", site.file.encode()))
        assert answer.status in (400, 404), (path, answer.body)
