"""The builder's half: what is declared, what is refused, and a seed that is the same for the same documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from pg_compiler import CONFIG, PgCompiler

from lsbuild_plugins.pgvector.plugin import PLUGIN
from lsbuild_plugins.pgvector.serve import seed
from lsbuild_plugins.pgvector.serve.settings import Settings
from lsbuild_runtime.manifest import ManifestError

DOCS = {
    "docs/a.md": "# A\n\nThe pump.\n\n# B\n\nThe valve.\n",
    "docs/b.md": "---\nyear: 2024\n---\nThe filter.\n",
    "docs/c.txt": "",
}


@pytest.fixture
def compiler(tmp_path: Path) -> PgCompiler:
    return PgCompiler(tmp_path)


def test_what_is_declared(compiler: PgCompiler) -> None:
    compiled = PLUGIN.compile(compiler.item(search="keyword"), compiler.given(DOCS))
    assert [(step.name.rsplit(".", 1)[-1], step.ship, step.part) for step in compiled.steps][-1] == (
        "seed",
        "indexes/manuals",
        "index",
    )
    (service,) = compiled.services
    assert (service.api, service.path, service.needs) == ("vector_io", "indexes/manuals", ("embeddings/embed",))
    assert service.config["dsn"] == {"secret": "PG_DSN"}
    assert msgspec.convert({**service.config, "dsn": "x"}, Settings).search == "keyword"
    assert compiled.wheels == ("psycopg[binary]>=3.2",)


def test_a_mutable_store_brings_stores_of_clients_and_what_uploads_need(compiler: PgCompiler) -> None:
    compiled = PLUGIN.compile(compiler.item(mutable=True, sources=()), compiler.given({}))
    assert compiled.steps == ()
    store, created = compiled.services
    assert (store.api, store.path, store.metadata["mutable"]) == ("vector_io", "", True)
    assert (created.api, created.name) == ("vector_stores", "manuals")
    assert created.config == store.config
    assert store.config["tokenizer"] == "models/embed/tokenizer.json"
    assert any(wheel.startswith("multipart") for wheel in compiled.wheels)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({}, "name the database: either dsn, or host"),
        ({"dsn": "postgresql://u:p@h/d"}, "the dsn holds a password"),
        ({"dsn": "host=h password = x"}, "the dsn holds a password"),
        ({"host": "h", "password": "x"}, "password"),
        ({"dsn": {"secret": "A"}, "user": "u"}, "user and dsn cannot both be given"),
        ({"host": "h", "schema": "x; DROP"}, "schema"),
        ({"host": "h", "language": "x'"}, "language"),
        ({"host": "h", "index": "flat"}, "index"),
        ({"host": "h", "ef_search": 0}, "ef_search"),
        ({"host": "h", "colour": 1}, "colour"),
    ],
)
def test_faulty_settings_are_named(compiler: PgCompiler, config: dict[str, Any], fault: str) -> None:
    problems = list(PLUGIN.check(compiler.item(config=config)))
    assert len(problems) == 1
    assert fault in f"{problems[0].path} {problems[0].message}"


@pytest.mark.parametrize(
    "config", [CONFIG, {"dsn": "postgresql:///d?host=/run/postgresql"}, {"host": "${env.PGHOST:=db}", "port": 5433}]
)
def test_good_settings(compiler: PgCompiler, config: dict[str, Any]) -> None:
    assert list(PLUGIN.check(compiler.item(config=config))) == []
    assert [problem.path for problem in PLUGIN.check(compiler.item(chunk={"tokens": 64, "overlap": 32}))] == [
        ("chunk", "overlap")
    ]


def test_the_same_documents_give_the_same_seed(compiler: PgCompiler) -> None:
    first, second = compiler.build(DOCS), compiler.build(dict(reversed(DOCS.items())))
    for name in (seed.FILE_NAME, seed.HEADER_NAME):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    other = compiler.build({**DOCS, "docs/c.txt": "More."})
    assert seed.read_header(other).digest != seed.read_header(first).digest
    header = seed.read_header(first)
    assert (header.files, header.dimensions, header.embedding) == (3, 96, "embed")
    documents = [document for _, document in seed.read(first)]
    assert [document.file.filename for document in documents] == ["docs/a.md", "docs/b.md", "docs/c.txt"]
    assert [(len(document.passages), len(document.vectors)) for document in documents] == [(2, 768), (1, 384), (0, 0)]
    assert documents[1].file.attributes == {"year": 2024}
    before = {document.file.file_id: digest for digest, document in seed.read(first)}
    after = {document.file.file_id: digest for digest, document in seed.read(other)}
    assert [name for name in before if before[name] != after[name]] == [documents[2].file.file_id]


@pytest.mark.parametrize("header", [None, b"{}", b'{"format":9,"digest":"","embedding":"","dimensions":1,"files":1}'])
def test_a_damaged_seed_does_not_open(tmp_path: Path, header: bytes | None) -> None:
    if header is not None:
        (tmp_path / seed.HEADER_NAME).write_bytes(header)
    with pytest.raises(ManifestError, match="build the artifact again"):
        seed.read_header(tmp_path)
