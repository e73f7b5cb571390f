"""The steps that make passages with vectors of a store's documents, and what a store needs of its embedding model; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

import msgspec

from lsbuild.api import Compiled, Given, Item, Problem, Service, Source, SourceError, Step
from lsbuild.spec.model import VectorStore
from lsbuild_plugins.documents.passages import OR_SKIP
from lsbuild_plugins.documents.shards import Shard, documents, shards
from lsbuild_runtime.ingest.document import IngestError
from lsbuild_runtime.ingest.parse import kind
from lsbuild_runtime.mutable import CHUNK

_HERE = "lsbuild_plugins.documents"
_RUN = f"{_HERE}.passages:run"
_CODE = (f"{_HERE}.passages", f"{_HERE}.cut", f"{_HERE}.embed", "lsbuild_runtime.ingest")
_TOOLS = ("semantic-text-splitter", "tokenizers", "markdown-it-py", "selectolax", "pypdfium2", "ruamel.yaml")


class Model(NamedTuple):
    """A compiled embedding model: its service, the step that makes the folder it is served from, and all it compiled to."""

    service: Service
    shipped: Step
    peer: Compiled


def spec_of(item: Item) -> VectorStore:
    """The item's entry of the spec."""
    return cast("VectorStore", item.spec)


def chunk_problems(spec: VectorStore) -> Iterator[Problem]:
    """Faults in the sizes of passages."""
    chunk = spec.chunk
    if chunk.overlap * 2 >= chunk.tokens:
        fault = f"overlap {chunk.overlap} is half of chunk.tokens ({chunk.tokens}) or more; use at most {(chunk.tokens - 1) // 2}"
        yield Problem(("chunk", "overlap"), fault)


def source_uris(item: Item) -> Mapping[str, str]:
    """Local name -> URI for each entry of ``sources``: what ``Plugin.sources`` has to answer for `passages_steps`."""
    return {f"docs{index}": entry.uri for index, entry in enumerate(spec_of(item).sources)}


def embedding(item: Item, given: Given) -> Model:
    """The store's embedding model; SourceError when it serves no embeddings or is not compiled into the artifact."""
    name = spec_of(item).embedding
    peer = given.peers["models", name]
    service = next((service for service in peer.services if service.api == "embeddings"), None)
    if service is None:
        raise SourceError(
            f"model {name!r} serves no embeddings",
            where=".".join((*item.path, "embedding")),
            hint="Name a model with type: embedding.",
        )
    shipped = next((step for step in peer.steps if step.ship and step.ship == service.path), None)
    if shipped is None:
        raise SourceError(
            f"model {name!r} ({service.provider}) is not compiled into the artifact, so it cannot embed documents at build",
            where=".".join((*item.path, "embedding")),
            hint="Name an embedding model with an inline provider.",
        )
    return Model(service, shipped, peer)


def passages_steps(item: Item, given: Given) -> list[Step]:
    """One step for each shard of the store's documents; their outputs are what `passages.read` reads."""
    model = embedding(item, given)
    spec = spec_of(item)
    attributes = {f"docs{index}": entry.attributes for index, entry in enumerate(spec.sources)}
    found = documents(given.sources, attributes)
    if spec.on_error == "fail":
        for document in found:
            _refuse_unknown(document.file.path)
    return [_step(item, index, shard, model) for index, shard in enumerate(shards(found))]


def longest_passage(store: Compiled) -> int:
    """Tokens of the longest passage of a store, as its embedding model counts them; 0 where the build does not know."""
    told = [step.options["tokens"] for step in store.steps if step.run == _RUN]
    told += [service.config[CHUNK]["tokens"] for service in store.services if CHUNK in service.config]
    return max(told, default=0)


def _step(item: Item, index: int, shard: Shard, model: Model) -> Step:
    """Keyed by its own documents, by the model and by the model's serve half, which it runs."""
    spec = spec_of(item)
    wheels = tuple(re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in model.peer.wheels)
    return Step(
        name=f"{'.'.join(item.path)}.passages.{index}",
        run=_RUN,
        options={
            "service": msgspec.to_builtins(model.service),
            "tokens": spec.chunk.tokens,
            "overlap": spec.chunk.overlap,
            "on_error": spec.on_error,
            "attributes": {each.file.path: dict(each.attributes) for each in shard if each.attributes},
        },
        sources={"documents": Source(uri="documents", files=tuple(each.file for each in shard))},
        needs={"embedding": model.shipped.name},
        forgets=("on_error", "attributes"),
        tools=(*_TOOLS, *wheels),
        code=(*_CODE, *model.peer.code),
        spread=True,
    )


def _refuse_unknown(path: str) -> None:
    """SourceError for a file that no reader takes, before anything runs."""
    try:
        kind(path)
    except IngestError as error:
        raise SourceError(error.what, where=error.where, hint=f"{error.hint}\n  {OR_SKIP}") from error
