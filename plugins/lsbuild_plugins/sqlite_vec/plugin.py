"""`inline::sqlite-vec` for the builder: declares the steps and the service of a vector store; reads and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, cast

import msgspec
from pydantic import BaseModel, ConfigDict

from lsbuild.api import Compiled, Given, Item, Problem, Service, Source, SourceError, SourceFile, Step, config_problems
from lsbuild.spec.model import VectorStore
from lsbuild_plugins.sqlite_vec.compile.shards import documents, shards
from lsbuild_runtime.ingest.document import IngestError
from lsbuild_runtime.ingest.parse import kind

_SERVE = "lsbuild_plugins.sqlite_vec.serve"
_COMPILE = "lsbuild_plugins.sqlite_vec.compile"
_PASSAGES_CODE = (f"{_COMPILE}.passages", f"{_COMPILE}.embed", "lsbuild_runtime.ingest")
_INDEX_CODE = (f"{_COMPILE}.index", _SERVE)


class Config(BaseModel):
    """Settings of a vector store under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    vectors: Literal["auto", "float32", "int8"] = "auto"
    """How vectors are kept: ``float32`` is exact, ``int8`` a quarter of the size; ``auto`` takes float32 for small stores."""


class SqliteVec:
    """The compile half of `inline::sqlite-vec`."""

    provider = "inline::sqlite-vec"
    kinds = ("vector_stores",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config`` and in the sizes of passages."""
        spec = _spec(item)
        if spec.chunk.overlap * 2 >= spec.chunk.tokens:
            most = (spec.chunk.tokens - 1) // 2
            fault = f"overlap {spec.chunk.overlap} is half of chunk.tokens ({spec.chunk.tokens}) or more; use at most {most}"
            yield Problem(("chunk", "overlap"), fault)
        yield from config_problems(Config, spec.config)

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:
        """The embedding model."""
        return (("models", _spec(item).embedding),)

    def sources(self, item: Item) -> Mapping[str, str]:
        """One local name for each entry of ``sources``."""
        return {f"docs{index}": uri for index, uri in enumerate(_spec(item).sources)}

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step for each shard of the documents, one that joins them, and the service."""
        spec = _spec(item)
        peer = given.peers["models", spec.embedding]
        service, shipped = _embedding(item, peer)
        files = documents(given.sources)
        for file in files:
            _refuse_unknown(file.path)
        passages = [
            _passages_step(item, index, shard, service, shipped, peer) for index, shard in enumerate(shards(files))
        ]
        return Compiled(
            steps=(*passages, _index_step(item, passages)),
            services=(_service(item),),
            wheels=("apsw>=3.50", "sqlite-vec>=0.1.9,<0.1.10"),
            code=(_SERVE,),
        )


PLUGIN = SqliteVec()


def _refuse_unknown(path: str) -> None:
    """SourceError for a file that no reader takes, before anything runs."""
    try:
        kind(path)
    except IngestError as error:
        raise SourceError(error.what, where=error.where, hint=error.hint) from error


def _spec(item: Item) -> VectorStore:
    return cast("VectorStore", item.spec)


def _embedding(item: Item, peer: Compiled) -> tuple[Service, Step]:
    """The peer's embeddings service and the step that makes the folder it is served from."""
    name = _spec(item).embedding
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
    return service, shipped


def _passages_step(
    item: Item, index: int, shard: tuple[SourceFile, ...], service: Service, shipped: Step, peer: Compiled
) -> Step:
    """Keyed by its own documents, by the model and by the model's serve half, which it runs."""
    chunk = _spec(item).chunk
    wheels = tuple(re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in peer.wheels)
    return Step(
        name=f"{'.'.join(item.path)}.passages.{index}",
        run=f"{_COMPILE}.passages:run",
        options={"service": msgspec.to_builtins(service), "tokens": chunk.tokens, "overlap": chunk.overlap},
        sources={"documents": Source(uri="documents", files=shard)},
        needs={"embedding": shipped.name},
        tools=("semantic-text-splitter", "tokenizers", "markdown-it-py", "selectolax", "ruamel.yaml", *wheels),
        code=(*_PASSAGES_CODE, *peer.code),
    )


def _index_step(item: Item, passages: list[Step]) -> Step:
    config = Config.model_validate(_spec(item).config)
    return Step(
        name=f"{'.'.join(item.path)}.index",
        run=f"{_COMPILE}.index:run",
        options={"embedding": _spec(item).embedding, "vectors": config.vectors},
        needs={f"passages.{index}": step.name for index, step in enumerate(passages)},
        tools=("apsw", "sqlite-vec", "numpy"),
        code=_INDEX_CODE,
        ship=f"indexes/{item.name}",
        part="index",
    )


def _service(item: Item) -> Service:
    spec = _spec(item)
    return Service(
        api="vector_io",
        name=item.name,
        provider=item.provider,
        entry=f"{_SERVE}:open_store",
        path=f"indexes/{item.name}",
        config={"search": spec.search},
        metadata={"embedding_model": spec.embedding},
        needs=(f"embeddings/{spec.embedding}",),
    )
