"""The plugin declares steps whose keys depend on what they read, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from lsbuild.api import Compiled, Given, Service, SourceError, Step
from lsbuild.facts import gather
from lsbuild.plan import plan
from lsbuild_plugins.sqlite_vec.plugin import PLUGIN

TEXT = "The pump and the valve. " * 10_000


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
    assert service.config == {"search": "keyword", "fusion": {"ranker": "rrf", "vector": 1.0, "keyword": 1.0}}
    assert list(PLUGIN.refers(compiler.item())) == [("models", "embed")]
    assert PLUGIN.sources(compiler.item()) == {"docs0": "docs/**"}


@pytest.mark.parametrize("mutable", [False, True])
def test_models_around_the_search_are_named_and_needed(compiler: Any, mutable: bool) -> None:
    item = compiler.item(rerank="judge", rewrite="small", mutable=mutable)
    assert list(PLUGIN.refers(item)) == [("models", "embed"), ("models", "judge"), ("models", "small")]
    services = PLUGIN.compile(item, compiler.given({"docs/a.md": "x"})).services
    assert len(services) == 1 + mutable
    for service in services:
        assert (service.config["rerank"], service.config["rewrite"]) == ("judge", "small")
        assert service.needs == ("embeddings/embed", "rerank/judge", "inference/small")
    assert steps(compiler, {"docs/a.md": "x"}, rerank="judge") == steps(compiler, {"docs/a.md": "x"})


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
