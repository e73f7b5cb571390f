"""The types of vector stores and their documents in a spec."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lsbuild.spec.section import OrText, Section


class Chunking(Section):
    """How documents are cut into passages."""

    tokens: int = Field(default=256, ge=16, le=8192)
    """Largest passage in tokens of the embedding model."""
    overlap: int = Field(default=32, ge=0)
    """Tokens that neighbouring passages share when a paragraph has to be cut."""


class Documents(Section):
    """Documents of a store, with what searches can filter them by. A plain text stands for its path or URL."""

    path: str | None = None
    """A file, a folder or a glob, relative to the spec, or a URI such as ``deb://``."""
    url: str | None = None
    """A file on a web server, pinned by ``#sha256=HEX`` or by lsbuild.lock."""
    attributes: dict[str, str | int | float | bool] = {}
    """Attributes of all these documents; a document's own front matter goes before them."""

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        if isinstance(value, str):
            return {"url" if value.startswith(("http://", "https://")) else "path": value}
        if not isinstance(value, dict | Documents):
            raise PydanticCustomError("string_type", "expected a text or a map")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Documents:
        if (self.path is None) == (self.url is None):
            raise ValueError("name the documents by either path or url")
        return self

    @field_validator("url")
    @classmethod
    def _web(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("expected a URL that begins with https:// or http://")
        return value

    def spelled(self) -> str | dict[str, Any]:
        """As a user would write it: a text when there is nothing but the place."""
        if not self.attributes:
            return self.uri
        return {"path" if self.url is None else "url": self.uri, "attributes": self.attributes}

    @property
    def uri(self) -> str:
        """What is fetched."""
        return self.path or self.url or ""


class Fusion(Section):
    """How a hybrid search joins what it found by meaning and by words."""

    ranker: Literal["rrf", "weighted"] = "rrf"
    """``rrf`` joins by places (reciprocal rank fusion), ``weighted`` by scores: often better where the scores of the
    embedding model spread well; measure it with ``evals``."""
    vector: float = Field(default=1.0, ge=0)
    """Weight of meaning."""
    keyword: float = Field(default=1.0, ge=0)
    """Weight of words."""

    @model_validator(mode="after")
    def _some_weight(self) -> Fusion:
        if not (self.vector or self.keyword):
            raise ValueError("one of the weights 'vector' and 'keyword' must be above 0")
        return self


class VectorStore(Section):
    """A searchable set of documents, served under its key in ``vector_stores``."""

    provider: str = "inline::sqlite-vec"
    """Who holds it: ``inline::sqlite-vec`` compiles an index into the artifact, ``remote::pgvector`` keeps it in PostgreSQL."""
    embedding: str
    """The model (a key of ``models`` with ``type: embedding``) that embeds passages and queries."""
    sources: tuple[Annotated[Documents, OrText, PlainSerializer(Documents.spelled)], ...] = ()
    """The documents: files, folders, globs (relative to the spec) and URLs, each a text or a map with attributes. Only a
    mutable store may have none."""
    mutable: bool = False
    """Whether clients may add, replace and remove documents while it is served, and create stores of their own."""
    on_error: Literal["fail", "skip"] = "fail"
    """What a document does that cannot be read: ``fail`` ends the build, ``skip`` leaves it out and lists it in the report."""
    chunk: Chunking = Chunking()
    """How documents are cut into passages."""
    search: Literal["vector", "keyword", "hybrid"] = "hybrid"
    """Default search: by meaning, by words, or both."""
    fusion: Fusion = Fusion()
    """How a hybrid search joins what it found by meaning and by words."""
    rerank: str | None = None
    """The model (a key of ``models`` with ``type: rerank``) that reads what a search finds and puts it in order again."""
    rewrite: str | None = None
    """The model (a key of ``models`` with ``type: llm``) that turns a question into queries: for agents, and for searches
    with ``rewrite_query: true``."""
    min_recall: float = Field(default=0.95, gt=0, le=1)
    """Share of the ten truly nearest passages that a search by meaning has to find, measured at build; 1 means exact search."""
    config: dict[str, Any] = {}
    """Settings of the provider."""

    @model_validator(mode="after")
    def _some_documents(self) -> VectorStore:
        if not (self.sources or self.mutable):
            raise ValueError("missing key 'sources': name documents, or say mutable: true to add them while it serves")
        return self
