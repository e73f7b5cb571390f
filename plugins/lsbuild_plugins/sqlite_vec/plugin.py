"""`inline::sqlite-vec` for the builder: declares the steps and the service of a vector store; reads and runs nothing."""

from __future__ import annotations

from typing import Literal

import msgspec
from pydantic import BaseModel, ConfigDict

from lsbuild.api import Compiled, Given, Item, Service, Step
from lsbuild_plugins.documents.around import with_models
from lsbuild_plugins.documents.services import mutable_services, search_config
from lsbuild_plugins.documents.steps import embedding, passages_steps, spec_of
from lsbuild_plugins.documents.store import DocumentStore
from lsbuild_runtime.mutable import WHEELS

_SERVE = "lsbuild_plugins.sqlite_vec.serve"
_COMPILE = "lsbuild_plugins.sqlite_vec.compile"
_WHEELS = ("apsw>=3.50", "sqlite-vec>=0.1.9,<0.1.10")
_INDEX_CODE = (_COMPILE, _SERVE)


class Config(BaseModel):
    """Settings of a vector store under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    vectors: Literal["auto", "float32", "int8"] = "auto"
    """How vectors are kept: ``float32`` is exact, ``int8`` a quarter of the size; ``auto`` takes float32 for small stores."""
    stop_words: Literal["auto", "keep", "prune"] = "auto"
    """Whether the text index holds words such as "the" and "of", by which no query is searched; ``prune`` leaves them out and
    makes it a fifth smaller, ``auto`` does so above 20,000 passages."""


class SqliteVec(DocumentStore):
    """The compile half of `inline::sqlite-vec`."""

    provider = "inline::sqlite-vec"
    config = Config

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step for each shard of the documents, one that joins them, and the services."""
        spec = spec_of(item)
        passages = passages_steps(item, given) if spec.sources else []
        return Compiled(
            steps=(*passages, _index_step(item, passages) if passages else _empty_step(item, given)),
            services=mutable_services(_service(item), item, given) if spec.mutable else (_service(item),),
            wheels=(*_WHEELS, *WHEELS) if spec.mutable else _WHEELS,
            code=(_SERVE,),
        )


PLUGIN = SqliteVec()


def _index_step(item: Item, passages: list[Step]) -> Step:
    config = Config.model_validate(spec_of(item).config)
    return Step(
        name=f"{'.'.join(item.path)}.index",
        run=f"{_COMPILE}.index:run",
        options={
            "embedding": spec_of(item).embedding,
            "vectors": config.vectors,
            "stop_words": config.stop_words,
            "min_recall": spec_of(item).min_recall,
        },
        needs={f"passages.{index}": step.name for index, step in enumerate(passages)},
        tools=("apsw", "sqlite-vec", "numpy"),
        code=_INDEX_CODE,
        ship=f"indexes/{item.name}",
        part="index",
    )


def _empty_step(item: Item, given: Given) -> Step:
    """The index of a store that is filled while it is served."""
    model = embedding(item, given)
    return Step(
        name=f"{'.'.join(item.path)}.index",
        run=f"{_COMPILE}.empty:run",
        options={"embedding": spec_of(item).embedding, "service": msgspec.to_builtins(model.service)},
        needs={"embedding": model.shipped.name},
        tools=("apsw", "sqlite-vec"),
        code=(f"{_COMPILE}.empty", "lsbuild_plugins.documents.embed", _SERVE, *model.peer.code),
        ship=f"indexes/{item.name}",
        part="index",
    )


def _service(item: Item) -> Service:
    spec = spec_of(item)
    service = Service(
        api="vector_io",
        name=item.name,
        provider=item.provider,
        entry=f"{_SERVE}:open_store",
        path=f"indexes/{item.name}",
        config={**search_config(spec)},
        metadata={"embedding_model": spec.embedding},
        needs=(f"embeddings/{spec.embedding}",),
    )
    return with_models(service, spec)
