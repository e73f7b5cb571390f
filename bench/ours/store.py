"""The vector store of a spec without a spec file: what `inline::sqlite-vec` declares for one, with its own defaults."""

from __future__ import annotations

from pathlib import Path

from lsbuild.api import Compiled, Given, Item, Service, Source, SourceFile, Step
from lsbuild.spec.model import VectorStore
from lsbuild_plugins.sqlite_vec.plugin import PLUGIN

MODEL = "embed"
_MODEL = Compiled(
    steps=(Step(name=f"models.{MODEL}", run="-:-", ship="models/embed"),),
    services=(Service(api="embeddings", name=MODEL, provider="inline::onnx", entry="-:-", path="models/embed"),),
)


def declared() -> Compiled:
    """Steps and services of a store with every default; its documents are a stand-in."""
    source = Source(uri="docs", files=(SourceFile("docs/a.md", Path("a.md"), "0" * 64, 1),))
    item = Item("vector_stores", "docs", PLUGIN.provider, VectorStore(embedding=MODEL, sources=("docs",)), Path())  # type: ignore[arg-type]
    return PLUGIN.compile(item, Given({"docs0": source}, {("models", MODEL): _MODEL}))


def index_step() -> Step:
    """The step that makes the index."""
    return next(step for step in declared().steps if step.ship)


def service() -> Service:
    """The service that searches it."""
    return declared().services[0]
