"""Runs the real steps of `remote::pgvector` in this process, for tests that begin at documents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from lsbuild.api import Compiled, Given, Item, Service, Source, SourceFile, Step, StepContext
from lsbuild.registry import attribute
from lsbuild.spec.model import VectorStore
from lsbuild_plugins.pgvector.plugin import PLUGIN

CONFIG = {"dsn": {"secret": "PG_DSN"}}


class PgCompiler:
    """Below ``folder`` lie a small model and all that the steps write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.model = self._new("model")
        tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.save(str(self.model / "tokenizer.json"))

    def item(self, **keys: Any) -> Item:
        spec = VectorStore(**{"embedding": "embed", "sources": ("docs/**",), "config": CONFIG, **keys})
        return Item("vector_stores", "manuals", "remote::pgvector", spec, self._folder)

    def given(self, files: Mapping[str, str]) -> Given:
        service = Service(
            api="embeddings", name="embed", provider="test", entry="vec_hashing:open_hashing", path="models/embed"
        )
        step = Step("models.embed.graph", "nowhere:run", ship="models/embed")
        peer = Compiled((step,), (service,), wheels=("msgspec>=0.19",), code=("lsbuild_runtime.manifest",))
        return Given({"docs0": self._source(files)}, {("models", "embed"): peer})

    def build(self, files: Mapping[str, str], **keys: Any) -> Path:
        """Compile a store; returns the folder that ships."""
        outputs = {"models.embed.graph": self.model}
        for step in PLUGIN.compile(self.item(**keys), self.given(files)).steps:
            out = self._new("out")
            inputs = {local: outputs[name] for local, name in step.needs.items()}
            attribute(step.run)(StepContext(out, step.options, step.sources, inputs, lambda *_: None))
            outputs[step.name] = out
        return out

    def _source(self, files: Mapping[str, str]) -> Source:
        folder = self._new("source")
        found = []
        for name, content in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
            data = content.encode()
            found.append(SourceFile(name, place, hashlib.sha256(data).hexdigest(), len(data)))
        return Source("docs/**", tuple(found))

    def _new(self, name: str) -> Path:
        self._count += 1
        folder = self._folder / f"{name}{self._count}"
        folder.mkdir()
        return folder
