"""`remote::pgvector` for the builder: checks the settings, declares the seed's steps and the services; connects nowhere."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lsbuild.api import Compiled, Given, Item, Service, Step
from lsbuild.spec.secret import Secret
from lsbuild.spec.units import Seconds
from lsbuild_plugins.documents.around import with_models
from lsbuild_plugins.documents.services import mutable_services, search_config
from lsbuild_plugins.documents.steps import passages_steps, spec_of
from lsbuild_plugins.documents.store import DocumentStore
from lsbuild_runtime.mutable import WHEELS

_SERVE = "lsbuild_plugins.pgvector.serve"
_COMPILE = "lsbuild_plugins.pgvector.compile"
_WHEELS = ("psycopg[binary]>=3.2",)
"""libpq inside: any URL, TLS mode and password scheme that PostgreSQL knows, on x86_64 and aarch64."""
_PASSWORD = re.compile(r"//[^/@]*:[^/@]+@|password\s*=", re.IGNORECASE)


class Config(BaseModel):
    """Settings of a shared store under ``config``: either ``dsn``, or ``host`` with what belongs to it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    dsn: Secret | str | None = None
    """All about the connection, as libpq reads it: ``postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full``. With
    a password in it it must be a secret: ``{secret: NAME}``."""
    host: str | None = None
    """Host name, or the folder of a Unix socket. May hold ``${env.NAME:=default}``, as the next ones."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Default: 5432."""
    database: str | None = None
    """Default: the user's name."""
    user: str | None = None
    """Who logs in."""
    password: Secret | None = None
    """As ``{secret: NAME}``."""
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    """Whether and how TLS is used; libpq's default is ``prefer``, a database across a network wants ``verify-full``."""
    schema_: str = Field(default="lsbuild", alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    """The PostgreSQL schema that holds all tables; distributions that share one share the stores of one name."""
    index: Literal["hnsw", "none"] = "hnsw"
    """``hnsw`` finds nearly all of the nearest passages fast, ``none`` finds all and compares each."""
    ef_search: int | None = Field(default=None, ge=1, le=1000)
    """How many candidates a search of the index looks at: more finds more and takes longer. Default: what meets the store's
    ``min_recall``, measured when the compiled documents are loaded."""
    language: str = Field(default="english", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    """PostgreSQL's text search configuration, for the stems and stop words of search by words."""
    connections: int = Field(default=8, ge=1, le=256)
    """Connections that one instance uses at most."""
    connect_timeout: Seconds = Field(default=5.0, gt=0)
    """Longest time to connect, and to notice that a server is gone."""
    statement_timeout: Seconds = Field(default=30.0, gt=0)
    """Longest time of one statement, and of waiting for a free connection."""

    @model_validator(mode="after")
    def _one_address(self) -> Config:
        alone = ("host", "port", "database", "user", "password", "sslmode")
        named = [name for name in alone if getattr(self, name) is not None]
        if self.dsn is None and self.host is None:
            raise ValueError("name the database: either dsn, or host")
        if self.dsn is not None and named:
            raise ValueError(f"{', '.join(named)} and dsn cannot both be given; put it into the dsn")
        if isinstance(self.dsn, str) and _PASSWORD.search(self.dsn):
            raise ValueError("the dsn holds a password; write dsn: {secret: NAME} and set NAME where the artifact runs")
        return self


class Pgvector(DocumentStore):
    """The compile half of `remote::pgvector`."""

    provider = "remote::pgvector"
    config = Config

    def compile(self, item: Item, given: Given) -> Compiled:
        """The steps that make a seed of the documents, when there are any, and the services."""
        spec = spec_of(item)
        passages = passages_steps(item, given) if spec.sources else []
        return Compiled(
            steps=(*passages, _seed_step(item, passages)) if passages else (),
            services=mutable_services(_service(item), item, given) if spec.mutable else (_service(item),),
            wheels=(*_WHEELS, *WHEELS) if spec.mutable else _WHEELS,
            code=(_SERVE,),
        )


PLUGIN = Pgvector()


def _seed_step(item: Item, passages: list[Step]) -> Step:
    return Step(
        name=f"{'.'.join(item.path)}.seed",
        run=f"{_COMPILE}.seed:run",
        options={"embedding": spec_of(item).embedding},
        needs={f"passages.{index}": step.name for index, step in enumerate(passages)},
        code=(f"{_COMPILE}.seed", f"{_SERVE}.seed"),
        ship=f"indexes/{item.name}",
        part="index",
    )


def _service(item: Item) -> Service:
    spec = spec_of(item)
    config = Config.model_validate(spec.config).model_dump(by_alias=True, exclude_none=True)
    service = Service(
        api="vector_io",
        name=item.name,
        provider=item.provider,
        entry=f"{_SERVE}:open_store",
        path=f"indexes/{item.name}" if spec.sources else "",
        config={**config, **search_config(spec), "min_recall": spec.min_recall},
        metadata={"embedding_model": spec.embedding},
        needs=(f"embeddings/{spec.embedding}",),
    )
    return with_models(service, spec)
