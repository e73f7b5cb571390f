"""What the tests of the vector store share: a real tokenizer, a small model folder, and stores compiled by the real steps."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Compiled, Given, Item, Service, Source, SourceFile, Step, StepContext
from lsbuild.registry import attribute
from lsbuild.spec.model import VectorStore
from lsbuild_plugins.sqlite_vec.plugin import PLUGIN
from lsbuild_plugins.sqlite_vec.serve import open_store
from lsbuild_runtime.ports import VectorIO
from small_tokenizer import save_tokenizer

Files = Mapping[str, str | bytes]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a compiled embedding model: single letters are its tokens inside words, whole common words too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return save_tokenizer(tmp_path / "model")


@pytest.fixture
def compiler(model: Path, tmp_path: Path) -> Compiler:
    return Compiler(model, tmp_path)


class Compiler:
    """Runs the plugin's real steps in this process, below ``tmp_path``."""

    def __init__(self, model: Path, tmp_path: Path) -> None:
        self.model = model
        self.tmp_path = tmp_path
        self._builds = 0
        self.service = Service(
            api="embeddings", name="embed", provider="test", entry="vec_hashing:open_hashing", path="models/embed"
        )

    def item(self, **keys: Any) -> Item:
        spec = VectorStore(**{"embedding": "embed", "sources": ("docs/**",), **keys})
        return Item("vector_stores", "manuals", "inline::sqlite-vec", spec, self.tmp_path)

    def peer(self, service: Service | None = None) -> Compiled:
        step = Step("models.embed.graph", "nowhere:run", ship="models/embed")
        return Compiled(
            (step,), (service or self.service,), wheels=("msgspec>=0.19",), code=("lsbuild_runtime.manifest",)
        )

    def given(self, files: Files) -> Given:
        return Given({"docs0": self.source(files)}, {("models", "embed"): self.peer()})

    def source(self, files: Files) -> Source:
        self._builds += 1
        found = []
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            place = self.tmp_path / f"source{self._builds}" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            found.append(SourceFile(name, place, hashlib.sha256(data).hexdigest(), len(data)))
        return Source("docs/**", tuple(found))

    def run(self, step: Step, inputs: Mapping[str, Path]) -> tuple[Path, Mapping[str, Any]]:
        self._builds += 1
        out = self.tmp_path / f"out{self._builds}"
        out.mkdir()
        run = attribute(step.run)
        facts = run(StepContext(out, step.options, step.sources, inputs, lambda *_: None))
        return out, facts

    def build(self, files: Files, **keys: Any) -> Path:
        """Compile a store; returns the root of a bundle that holds its index."""
        compiled = PLUGIN.compile(self.item(**keys), self.given(files))
        outputs: dict[str, Path] = {"models.embed.graph": self.model}
        for step in compiled.steps:
            outputs[step.name], _ = self.run(step, {local: outputs[name] for local, name in step.needs.items()})
        self._builds += 1
        root = self.tmp_path / f"bundle{self._builds}"
        (root / "indexes").mkdir(parents=True)
        (root / "indexes/manuals").symlink_to(outputs["vector_stores.manuals.index"])
        return root

    def open(self, root: Path, host: Any = None, **keys: Any) -> VectorIO:
        (service,) = PLUGIN.compile(self.item(**keys), self.given({"a.md": "x"})).services
        return open_store(service, root, host or Peers(self.hashing()))

    def hashing(self, **keys: Any) -> Any:
        return importlib.import_module("vec_hashing").Hashing(**keys)


class Peers:
    """A host with one model."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def get(self, api: str, name: str) -> Any:
        assert (api, name) == ("embeddings", "embed")
        return self.model
