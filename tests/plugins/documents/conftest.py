"""What the tests of documents share: steps of a store declared by the real code and run in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Compiled, Given, Item, Memo, NoMemo, Service, Source, SourceFile, Step, StepContext
from lsbuild.registry import attribute
from lsbuild.spec.model import VectorStore
from lsbuild_plugins.documents.steps import passages_steps
from small_tokenizer import save_tokenizer

HERE = Path(__file__).parent
Files = Mapping[str, str | bytes]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.syspath_prepend(HERE.parent / "sqlite_vec")
    return Shop(tmp_path)


class Shop:
    """A store of documents with a small model, below ``tmp_path``."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.model = save_tokenizer(tmp_path / "model")
        self.made = 0

    def source(self, files: Files, uri: str = "docs/**") -> Source:
        self.made += 1
        found = []
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            place = self.tmp_path / f"source{self.made}" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            found.append(SourceFile(name, place, hashlib.sha256(data).hexdigest(), len(data)))
        return Source(uri, tuple(found))

    def steps(self, *sources: Source, **keys: Any) -> list[Step]:
        spec = VectorStore(**{"embedding": "embed", "sources": ["docs/**"] * len(sources), **keys})
        service = Service(
            api="embeddings", name="embed", provider="test", entry="vec_hashing:open_hashing", path="models/embed"
        )
        shipped = Step("models.embed.graph", "lsbuild_runtime.manifest:read", ship="models/embed")
        peer = Compiled((shipped,), (service,), wheels=("msgspec>=0.19",), code=("lsbuild_runtime.manifest",))
        given = Given({f"docs{i}": source for i, source in enumerate(sources)}, {("models", "embed"): peer})
        return passages_steps(Item("vector_stores", "manuals", "inline::sqlite-vec", spec, self.tmp_path), given)

    def run(self, step: Step, memo: Memo | None = None, seen: list[tuple[int, int, str]] | None = None) -> Run:
        self.made += 1
        out = self.tmp_path / f"out{self.made}"
        out.mkdir()
        events = [] if seen is None else seen
        context = StepContext(
            out,
            step.options,
            step.sources,
            {"embedding": self.model},
            lambda done, total, label: events.append((done, total, label)),
            memo or NoMemo(),
        )
        return Run(out, attribute(step.run)(context))


class Run:
    """What a step wrote and told."""

    def __init__(self, out: Path, facts: Mapping[str, Any]) -> None:
        self.out = out
        self.facts = facts

    @property
    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())}
