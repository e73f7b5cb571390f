"""Vector stores that take documents while they serve, as Protocols with their values; types only, no behaviour.

Who calls whom: the routes keep uploads and their states (`files`, `batches`), read and cut documents (`ingest`) and embed
passages; a provider only stores what is ready, searches it, and answers what it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Attribute, Passage, VectorIO

WHEELS = (
    "apsw>=3.50",
    "multipart>=2,<3",
    "tokenizers>=0.22",
    "semantic-text-splitter>=0.27",
    "markdown-it-py>=3",
    "pypdfium2>=5",
    "ruamel.yaml>=0.18",
    "selectolax>=0.3.29",
)
"""What the routes need to take, keep, read and cut uploads. A provider adds them to the wheels of a mutable store, beside
its own, and the package ``lsbuild_runtime.ingest`` is in every runtime."""

CHUNK = "chunk"
TOKENIZER = "tokenizer"
"""Keys in the config of a mutable store's services: ``{"tokens": N, "overlap": N}``, and the tokenizer.json of its
embedding model as a path in the bundle."""


class StoredFile(Struct, frozen=True, kw_only=True):
    """One document of a store. ``bytes`` is the size of the file, ``created_at`` in seconds since 1970 (0: compiled in)."""

    file_id: str
    filename: str
    sha256: str
    bytes: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    passages: int = 0
    created_at: int = 0


class MutableVectorIO(VectorIO, Protocol):
    """A vector store that can be changed.

    What a method has acknowledged by returning is on the disk: neither kill -9 nor a power cut undoes it. A change is
    seen whole or not at all, by every search that starts after it, in every process that has the store open. Errors:
    ApiError 400 for vectors of other dimensions, 507 when the disk is full, 503 when it cannot be written; after the
    cause is gone the next call succeeds.
    """

    def put(self, document: StoredFile, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
        """Store a document, in place of the one with its ``file_id``; ``vectors`` float32 little-endian, one a passage."""
        ...

    def add(self, document: StoredFile, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
        """Add passages to a document (made when it is new), in place of those with the same ``chunk_id``."""
        ...

    def remove(self, file_id: str) -> bool:
        """Forget a document and its passages; False when there is none. A compiled one is hidden."""
        ...

    def set_attributes(self, file_id: str, attributes: Mapping[str, Attribute]) -> bool:
        """Replace a document's attributes; False when there is none."""
        ...

    def file(self, file_id: str) -> StoredFile | None:
        """One document, without its passages."""
        ...

    def files(self) -> Sequence[StoredFile]:
        """All documents, oldest first; those of one second by ``file_id``."""
        ...

    def passages(self, file_id: str) -> Sequence[Passage]:
        """A document's passages in order; empty when there is none."""
        ...

    def compact(self, context: Context) -> int:
        """Fold what was added into the index, so that searches cost what they cost after a build; returns the passages
        folded. Searches and writes go on meanwhile; 0 for a provider that needs none."""
        ...


class StoreRecord(Struct, frozen=True, kw_only=True):
    """A store that was created while serving. ``expires_days`` counts from ``last_active_at``; None: it stays.

    ``embedding`` is the name of the embedding model. ``metadata`` and ``description`` are the client's own words.
    """

    id: str
    name: str
    created_at: int
    last_active_at: int
    embedding: str
    dimensions: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires_days: int | None = None
    description: str = ""


class VectorStores(Protocol):
    """The stores that clients created with one provider: a service of API ``vector_stores`` with the same ``config`` as
    its mutable store, and in ``metadata`` the ``embedding_model``, with ``embedding_dimension`` where a build knows it."""

    def create(self, record: StoreRecord) -> MutableVectorIO:
        """Make an empty store; it is there after a power cut."""
        ...

    def records(self) -> Sequence[StoreRecord]:
        """All of them, oldest first."""
        ...

    def update(self, record: StoreRecord) -> bool:
        """Replace the record with that ``id`` (never its ``embedding`` or ``dimensions``); False when there is none."""
        ...

    def open(self, store_id: str) -> MutableVectorIO | None:
        """The store, or None."""
        ...

    def drop(self, store_id: str) -> bool:
        """Delete a store with all it holds; False when there is none."""
        ...
