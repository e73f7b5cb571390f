"""`inline::sqlite-vec` for the builder: declares the steps and the service of a vector store; reads and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from lsbuild.api import Compiled, Given, Item, Problem, Service, Step, config_problems
from lsbuild_plugins.documents.steps import passages_steps, source_uris, spec_of

_SERVE = "lsbuild_plugins.sqlite_vec.serve"
_COMPILE = "lsbuild_plugins.sqlite_vec.compile"
_INDEX_CODE = (_COMPILE, _SERVE)


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
        spec = spec_of(item)
        if spec.chunk.overlap * 2 >= spec.chunk.tokens:
            most = (spec.chunk.tokens - 1) // 2
            fault = f"overlap {spec.chunk.overlap} is half of chunk.tokens ({spec.chunk.tokens}) or more; use at most {most}"
            yield Problem(("chunk", "overlap"), fault)
        yield from config_problems(Config, spec.config)

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:
        """The embedding model."""
        return (("models", spec_of(item).embedding),)

    def sources(self, item: Item) -> Mapping[str, str]:
        """One local name for each entry of ``sources``."""
        return source_uris(item)

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step for each shard of the documents, one that joins them, and the service."""
        passages = passages_steps(item, given)
        return Compiled(
            steps=(*passages, _index_step(item, passages)),
            services=(_service(item),),
            wheels=("apsw>=3.50", "sqlite-vec>=0.1.9,<0.1.10"),
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
            "min_recall": spec_of(item).min_recall,
        },
        needs={f"passages.{index}": step.name for index, step in enumerate(passages)},
        tools=("apsw", "sqlite-vec", "numpy"),
        code=_INDEX_CODE,
        ship=f"indexes/{item.name}",
        part="index",
    )


def _service(item: Item) -> Service:
    spec = spec_of(item)
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
