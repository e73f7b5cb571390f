"""/v1/vector-io: Llama Stack's own way to put chunks into a store and to find them again."""

from __future__ import annotations

import hashlib
import math
from array import array
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from lsbuild_runtime.http import Context, Request, Response, json_response
from lsbuild_runtime.mutable import StoredFile
from lsbuild_runtime.ports import Attribute, Hit, Passage, SearchMode, StoreInfo
from lsbuild_runtime.routes.fields import checked_attributes, checked_text
from lsbuild_runtime.routes.filters import Filter, checked_filter
from lsbuild_runtime.routes.search import Ranker, RankingOptions, find, ranked
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.uploads.prepare import embed

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site
    from lsbuild_runtime.stores import Store

MOST_CHUNKS = 2000
_LARGEST = 3.4e38


class TextItem(Struct, forbid_unknown_fields=True):
    """A part of a content that has several."""

    text: str
    type: Literal["text"] = "text"


Content = str | TextItem | Annotated[list[TextItem], Meta(min_length=1, max_length=64)]


class ChunkMetadata(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a chunk comes from. Of what is sent, ``chunk_id``, ``document_id``, ``source`` (shown as the file's name) and
    ``created_timestamp`` are kept; the rest says how it was made and is no part of the store."""

    chunk_id: str | None = None
    document_id: str | None = None
    source: str | None = None
    created_timestamp: int | None = None
    updated_timestamp: int | None = None
    chunk_window: str | None = None
    chunk_tokenizer: str | None = None
    chunk_embedding_model: str | None = None
    chunk_embedding_dimension: int | None = None
    content_token_count: int | None = None
    metadata_token_count: int | None = None


class Chunk(Struct, kw_only=True, forbid_unknown_fields=True):
    """A passage. Without ``embedding`` the store's model makes one. ``metadata`` becomes attributes of its document."""

    content: Content
    chunk_id: str | None = None
    metadata: dict[str, Any] = {}
    chunk_metadata: ChunkMetadata = field(default_factory=ChunkMetadata)
    embedding: list[float] | None = None
    embedding_model: str | None = None
    embedding_dimension: int | None = None


class InsertRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Chunks for a store; those with a ``chunk_id`` that their document has already take its place."""

    vector_store_id: str
    chunks: Annotated[list[Chunk], Meta(min_length=1, max_length=MOST_CHUNKS)]
    ttl_seconds: int | None = None


class QueryParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """How to search."""

    max_chunks: Annotated[int, Meta(ge=1, le=50)] = 3
    score_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0
    mode: SearchMode | None = None
    ranker: str | Ranker | None = None
    filters: Filter | None = None


class QueryRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A question for a store."""

    vector_store_id: str
    query: Content
    params: QueryParams | None = None


class FoundChunk(Struct):
    """A passage that was found. ``embedding`` is empty: vectors are not given out."""

    content: str
    chunk_id: str
    metadata: dict[str, Any]
    chunk_metadata: ChunkMetadata
    embedding: list[float]
    embedding_model: str
    embedding_dimension: int


class QueryAnswer(Struct):
    """Passages, best first, and their scores in 0..1."""

    chunks: list[FoundChunk]
    scores: list[float]


_INSERT = msgspec.json.Decoder(InsertRequest)
_QUERY = msgspec.json.Decoder(QueryRequest)


def insert(app: Site, request: Request, _: str) -> Response:
    """Store chunks; they are on the disk and found by searches when the answer is sent."""
    wanted = decode(request, _INSERT)
    if wanted.ttl_seconds is not None:
        raise refused("ttl_seconds", "chunks do not expire; give the store expires_after", "unsupported_parameter")
    store = app.stores.find(wanted.vector_store_id)
    port = app.stores.writable(store)
    info = port.info()
    now = int(app.stores.clock())
    passages = [_passage(chunk, place) for place, chunk in enumerate(wanted.chunks)]
    given = [_vector(chunk, place, info) for place, chunk in enumerate(wanted.chunks)]
    documents = _documents(wanted.chunks, passages, now)
    vectors = _complete(app, store, passages, given, request.context)
    for document, places in documents:
        port.add(document, [passages[place] for place in places], [vectors[place] for place in places])
    app.stores.touch(store)
    return Response(204)


def query(app: Site, request: Request, _: str) -> Response:
    """Find chunks."""
    wanted = decode(request, _QUERY)
    store = app.stores.find(wanted.vector_store_id)
    params = wanted.params or QueryParams()
    options = RankingOptions(ranker=params.ranker, score_threshold=params.score_threshold)
    ranking = ranked(options, params.mode, "params")
    text = _text(wanted.query, "query")
    filters = checked_filter(params.filters)
    hits = find(app, store, [text], request.context, params.max_chunks, ranking, filters, "params")
    info = app.stores.port(store).info()
    return json_response(QueryAnswer([_found(hit, info) for hit in hits], [hit.score for hit in hits]))


def _text(content: Content, at: str) -> str:
    if isinstance(content, str):
        text = content
    else:
        text = "\n".join(item.text for item in ([content] if isinstance(content, TextItem) else content))
    if not text.strip():
        raise refused(at, "an empty text says nothing")
    return checked_text(text, at)


def _passage(chunk: Chunk, place: int) -> Passage:
    at = f"chunks[{place}]"
    text = _text(chunk.content, f"{at}.content")
    given = chunk.chunk_id or chunk.chunk_metadata.chunk_id
    digest = hashlib.sha256(f"{_document_id(chunk)}\0{text}".encode("utf-8", "replace")).hexdigest()
    chunk_id = checked_text(given, f"{at}.chunk_id") if given else f"chunk-{digest[:24]}"
    return Passage(
        chunk_id=chunk_id, text=text, heading="", prefix="", start=0, end=len(text), line_start=0, line_end=0
    )


def _document_id(chunk: Chunk) -> str:
    """The document a chunk belongs to, "" when it names none."""
    named = chunk.chunk_metadata.document_id or chunk.metadata.get("document_id")
    return named if isinstance(named, str) else ""


def _documents(chunks: list[Chunk], passages: list[Passage], now: int) -> list[tuple[StoredFile, list[int]]]:
    """The documents, each with the places of its chunks; ApiError 400 when chunks of one document contradict."""
    places: dict[str, list[int]] = {}
    seen: set[str] = set()
    for place, (chunk, passage) in enumerate(zip(chunks, passages, strict=True)):
        if passage.chunk_id in seen:
            raise refused(f"chunks[{place}].chunk_id", f"{passage.chunk_id[:60]!r} is there twice")
        seen.add(passage.chunk_id)
        document_id = checked_text(_document_id(chunk) or passage.chunk_id, f"chunks[{place}].metadata")
        places.setdefault(document_id, []).append(place)
    return [(_document(name, chunks, passages, own, now), own) for name, own in places.items()]


def _document(name: str, chunks: list[Chunk], passages: list[Passage], places: list[int], now: int) -> StoredFile:
    first = chunks[places[0]]
    attributes = _attributes(first, places[0])
    for place in places:
        if _attributes(chunks[place], place) != attributes:
            why = f"differs from that of chunks[{places[0]}]; attributes belong to the document {name[:50]!r}"
            raise refused(f"chunks[{place}].metadata", why)
    texts = [passages[place].text.encode() for place in places]
    filename = attributes.get("filename") or first.chunk_metadata.source or name
    return StoredFile(
        file_id=name,
        filename=checked_text(str(filename), f"chunks[{places[0]}].chunk_metadata.source"),
        sha256=hashlib.sha256(b"\0".join(texts)).hexdigest(),
        bytes=sum(map(len, texts)),
        attributes=attributes,
        passages=len(places),
        created_at=min(max(first.chunk_metadata.created_timestamp or now, 0), 2**53),
    )


def _attributes(chunk: Chunk, place: int) -> dict[str, Attribute]:
    at = f"chunks[{place}].metadata"
    for key, value in chunk.metadata.items():
        if not isinstance(value, str | int | float):
            raise refused(f"{at}.{key}", "attributes are texts, numbers and booleans")
    return checked_attributes(chunk.metadata, at)


def _vector(chunk: Chunk, place: int, info: StoreInfo) -> bytes | None:
    """The given embedding as a unit vector; ApiError 400 when it is not one of the store's model."""
    at = f"chunks[{place}]"
    if chunk.embedding_model not in (None, info.embedding):
        fault = f"{chunk.embedding_model[:60]!r}, but the store was made with {info.embedding!r}"
        raise refused(f"{at}.embedding_model", fault)
    for count in (chunk.embedding_dimension, None if chunk.embedding is None else len(chunk.embedding)):
        if count not in (None, info.dimensions):
            fault = f"{count} dimensions, but the store's model {info.embedding!r} gives {info.dimensions}"
            raise refused(f"{at}.embedding", fault)
    if chunk.embedding is None:
        return None
    length = math.sqrt(math.fsum(min(abs(value), _LARGEST) ** 2 for value in chunk.embedding))
    if not length or any(abs(value) > _LARGEST for value in chunk.embedding):
        raise refused(f"{at}.embedding", "a vector of zeros or of infinite numbers has no direction")
    return array("f", [value / length for value in chunk.embedding]).tobytes()


def _complete(
    app: Site, store: Store, passages: list[Passage], given: list[bytes | None], context: Context
) -> list[bytes]:
    """The given vectors, and those of the store's model where none was given."""
    missing = [passage for passage, vector in zip(passages, given, strict=True) if vector is None]
    made = iter(embed(app.stores.model(store), missing, context.cancel, context.check, context.watch))
    return [next(made) if vector is None else vector for vector in given]


def _found(hit: Hit, info: StoreInfo) -> FoundChunk:
    return FoundChunk(
        content=hit.text,
        chunk_id=hit.chunk_id,
        metadata={"document_id": hit.file_id, "filename": hit.filename, **hit.attributes},
        chunk_metadata=ChunkMetadata(
            chunk_id=hit.chunk_id,
            document_id=hit.file_id,
            source=hit.filename,
            chunk_window=f"{hit.start}-{hit.end}",
        ),
        embedding=[],
        embedding_model=info.embedding,
        embedding_dimension=info.dimensions,
    )
