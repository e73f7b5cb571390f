"""The plugin declares steps whose keys depend on what they read, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Compiled, Given, Service, Source, SourceError, SourceFile, Step
from lsbuild.facts import gather
from lsbuild.plan import plan
from lsbuild_plugins.documents.shards import documents, shards
from lsbuild_plugins.sqlite_vec.plugin import PLUGIN

TEXT = "The pump and the valve. " * 1000


def steps(compiler: Any, files: dict[str, str], **keys: Any) -> dict[str, str]:
    """Step name -> content key, as the planner gives them."""
    compiled = PLUGIN.compile(compiler.item(**keys), compiler.given(files))
    everything = (Step("models.embed.graph", "lsbuild_runtime.manifest:read", ship="models/embed"), *compiled.steps)
    planned = plan(everything, facts=gather(everything), known=lambda _: False, previous={})
    return {each.step.name: each.key for each in planned.steps}


def test_what_is_declared(compiler: Any) -> None:
    compiled = PLUGIN.compile(compiler.item(search="keyword"), compiler.given({"docs/a.md": "x"}))
    assert [(step.name, step.ship, step.part) for step in compiled.steps] == [
        ("vector_stores.manuals.passages.0", "", "model"),
        ("vector_stores.manuals.index", "indexes/manuals", "index"),
    ]
    (service,) = compiled.services
    assert (service.api, service.path, service.needs) == ("vector_io", "indexes/manuals", ("embeddings/embed",))
    assert service.config == {"search": "keyword"}
    assert list(PLUGIN.refers(compiler.item())) == [("models", "embed")]
    assert PLUGIN.sources(compiler.item()) == {"docs0": "docs/**"}


def test_a_changed_document_runs_its_own_shard_only(compiler: Any) -> None:
    files = {f"docs/{number}.md": TEXT for number in range(20)}
    before, after = steps(compiler, files), steps(compiler, {**files, "docs/7.md": TEXT.replace("pump", "PUMP")})
    assert len(before) >= 8
    changed = {name for name in before if before[name] != after[name]}
    assert len(changed) == 2
    assert "vector_stores.manuals.index" in changed


def test_chunk_sizes_and_encoding_change_what_they_must(compiler: Any) -> None:
    files = {"docs/a.md": "x"}
    before = steps(compiler, files)
    smaller = steps(compiler, files, chunk={"tokens": 64})
    assert {name for name in before if before[name] != smaller[name]} == {
        "vector_stores.manuals.passages.0",
        "vector_stores.manuals.index",
    }
    int8 = steps(compiler, files, config={"vectors": "int8"})
    assert {name for name in before if before[name] != int8[name]} == {"vector_stores.manuals.index"}
    assert steps(compiler, files, search="vector") == before


def test_shards_hold_every_file_once_and_stay_when_one_grows(compiler: Any) -> None:
    files = compiler.source({f"{number}.txt": "x" * 20_000 for number in range(50)}).files
    groups = shards(files)
    assert sorted(file.path for group in groups for file in group) == sorted(file.path for file in files)
    assert 8 <= len(groups) <= 16
    assert shards(tuple(reversed(files))) != groups  # order within a shard follows the caller, who sorts
    assert {frozenset(f.path for f in group) for group in shards(reversed(files))} == {
        frozenset(f.path for f in group) for group in groups
    }


def test_one_file_through_two_globs_is_one_document(compiler: Any) -> None:
    source = compiler.source({"docs/a.md": "x", "docs/b.md": "y"})
    given = Given({"docs0": source, "docs1": source}, {("models", "embed"): compiler.peer()})
    (passages, _) = PLUGIN.compile(compiler.item(), given).steps
    assert [file.path for file in passages.sources["documents"].files] == ["docs/a.md", "docs/b.md"]


@pytest.mark.parametrize(
    ("uri", "paths", "names"),
    [
        ("docs/*.md", ["docs/a.md"], ["docs/a.md"]),
        ("../../docs/**/*.md", ["../../docs/x/a.md"], ["docs/x/a.md"]),
        ("./docs/", ["a.md", "x/b.md"], ["docs/a.md", "docs/x/b.md"]),
        ("../docs/a.md", ["a.md"], ["docs/a.md"]),
        ("/data/docs", ["a.md", "b.md"], ["data/docs/a.md", "data/docs/b.md"]),
        ("hf://org/name@rev", ["a.md"], ["a.md"]),
    ],
)
def test_documents_are_named_as_the_spec_spells_them(uri: str, paths: list[str], names: list[str]) -> None:
    source = Source(uri, tuple(SourceFile(path, Path(path), "0", 1) for path in paths))
    assert [file.path for file in documents({"docs0": source})] == names


def test_two_files_of_one_name_are_refused(compiler: Any) -> None:
    sources = {"docs0": compiler.source({"a.md": "x"}), "docs1": compiler.source({"a.md": "y"})}
    with pytest.raises(SourceError, match="different files"):
        PLUGIN.compile(compiler.item(), Given(sources, {("models", "embed"): compiler.peer()}))


def test_files_that_cannot_be_read_are_refused_before_anything_runs(compiler: Any) -> None:
    with pytest.raises(SourceError, match=r"'\.pdf'") as error:
        PLUGIN.compile(compiler.item(), compiler.given({"docs/a.md": "x", "docs/b.pdf": "y"}))
    assert error.value.where == "docs/b.pdf"


def test_a_name_that_is_not_utf8_is_refused() -> None:
    source = Source("docs/*", (SourceFile("docs/caf\udce9.md", Path("x"), "0", 1),))
    with pytest.raises(SourceError, match="not printable UTF-8") as error:
        documents({"docs0": source})
    assert error.value.where.isascii()


def test_no_documents_is_an_error(compiler: Any) -> None:
    with pytest.raises(SourceError, match="no documents"):
        PLUGIN.compile(compiler.item(), compiler.given({}))


@pytest.mark.parametrize(
    ("peer", "fault"),
    [
        (
            Compiled(services=(Service(api="inference", name="embed", provider="p", entry="a:b"),)),
            "serves no embeddings",
        ),
        (
            Compiled(services=(Service(api="embeddings", name="embed", provider="remote::x", entry="a:b"),)),
            "not compiled",
        ),
    ],
)
def test_models_that_cannot_embed_at_build_are_refused(compiler: Any, peer: Compiled, fault: str) -> None:
    sources = {"docs0": compiler.source({"a.md": "x"})}
    with pytest.raises(SourceError, match=fault) as error:
        PLUGIN.compile(compiler.item(), Given(sources, {("models", "embed"): peer}))
    assert error.value.where == "vector_stores.manuals.embedding"


def test_check_names_the_key(compiler: Any) -> None:
    item = compiler.item(chunk={"tokens": 64, "overlap": 32}, config={"vectors": "int4", "lists": 5})
    assert sorted(problem.path for problem in PLUGIN.check(item)) == [
        ("chunk", "overlap"),
        ("config", "lists"),
        ("config", "vectors"),
    ]
    assert list(PLUGIN.check(compiler.item(chunk={"tokens": 64, "overlap": 31}))) == []
