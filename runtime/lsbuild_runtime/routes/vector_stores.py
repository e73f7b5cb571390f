"""/v1/vector_stores: the stores of the artifact and those that clients create, as OpenAI shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from lsbuild_runtime.http import ApiError, Context, Request, Response, json_response
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.mutable import StoreRecord
from lsbuild_runtime.routes.chunking import ChunkingStrategy, chunking
from lsbuild_runtime.routes.fields import Metadata, checked_text
from lsbuild_runtime.routes.paging import page
from lsbuild_runtime.routes.providers import provider_id
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.stores import Store, expires_at
from lsbuild_runtime.uploads.attached import Wish

if TYPE_CHECKING:
    from lsbuild_runtime.manifest import Service
    from lsbuild_runtime.ports import Embeddings
    from lsbuild_runtime.routing import Site

MOST_FILES = 2000
"""OpenAI's own limit for one request."""
_Name = Annotated[str, Meta(max_length=256)]


class ExpiresAfter(Struct, forbid_unknown_fields=True):
    """How long a store stays when it is not used."""

    days: Annotated[int, Meta(ge=1, le=365)]
    anchor: Literal["last_active_at"] = "last_active_at"


class CreateRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's request, then Llama Stack's choice of provider and embedding model."""

    name: _Name | None = None
    description: Annotated[str, Meta(max_length=512)] | None = None
    file_ids: Annotated[list[str], Meta(max_length=MOST_FILES)] = []
    expires_after: ExpiresAfter | None = None
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Metadata | None = None
    provider_id: str | None = None
    embedding_model: str | None = None
    embedding_dimension: int | None = None


class UpdateRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is; null clears it."""

    name: _Name | msgspec.UnsetType | None = msgspec.UNSET
    expires_after: ExpiresAfter | msgspec.UnsetType | None = msgspec.UNSET
    metadata: Metadata | msgspec.UnsetType | None = msgspec.UNSET


class FileCounts(Struct):
    """Files of a store by state."""

    completed: int
    total: int
    cancelled: int = 0
    failed: int = 0
    in_progress: int = 0


class VectorStoreObject(Struct):
    """A vector store. ``created_at`` is 0 for one of the artifact: a reproducible build has no time."""

    id: str
    object: str
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: str
    metadata: dict[str, str]
    last_active_at: int | None = None
    expires_after: ExpiresAfter | None = None
    expires_at: int | None = None


class Ways(Struct, frozen=True):
    """Counts of files: cancelled, failed and in progress; all of these; those of which an older version is stored."""

    by_state: tuple[int, int, int]
    total: int
    older: int


class VectorStoreList(Struct):
    """A page of stores."""

    object: str
    data: list[VectorStoreObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(Struct):
    """What was deleted."""

    id: str
    object: str
    deleted: bool = True


_CREATE = msgspec.json.Decoder(CreateRequest)
_UPDATE = msgspec.json.Decoder(UpdateRequest)


def listing(app: Site, request: Request, _: str) -> Response:
    """The stores, newest first; those of the artifact are the oldest, in the order of their names."""
    part = page(app.stores.listing(), lambda store: store.id, request.query)
    data = [describe(app, store) for store in part.values]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return json_response(VectorStoreList("list", data, first, last, part.more))


def retrieve(app: Site, _: Request, store_id: str) -> Response:
    """One store."""
    return json_response(describe(app, app.stores.find(store_id)))


def create(app: Site, request: Request, _: str) -> Response:
    """Make a store; files that are named are queued for it."""
    wanted = decode(request, _CREATE)
    service = _home(app, wanted)
    dimensions = _dimensions(app, service, request.context)
    if wanted.embedding_dimension not in (None, dimensions):
        fault = f"{wanted.embedding_dimension}, but {service.metadata['embedding_model']!r} gives {dimensions}"
        raise refused("embedding_dimension", fault)
    sizes = chunking(app, service, wanted.chunking_strategy)
    for place, file_id in enumerate(wanted.file_ids):
        _known(app, file_id, f"file_ids[{place}]")
    now = int(app.stores.clock())
    record = StoreRecord(
        id=new_id("vs_"),
        name=checked_text(wanted.name or "", "name"),
        created_at=now,
        last_active_at=now,
        embedding=str(service.metadata["embedding_model"]),
        dimensions=dimensions,
        metadata=_words(wanted.metadata),
        expires_days=wanted.expires_after.days if wanted.expires_after else None,
        description=checked_text(wanted.description or "", "description"),
    )
    store = app.stores.create(service, record)
    if wanted.file_ids:
        app.stores.uploads.attached.add(store.id, [Wish(file_id, {}, sizes) for file_id in wanted.file_ids])
        app.stores.wake()
    return json_response(describe(app, store))


def update(app: Site, request: Request, store_id: str) -> Response:
    """Change name, metadata or expiry of a store that a client created."""
    wanted = decode(request, _UPDATE)
    store = _own(app, store_id, "changed")

    def changed(record: StoreRecord) -> StoreRecord:
        record = replace(record, last_active_at=int(app.stores.clock()))
        if wanted.name is not msgspec.UNSET:
            record = replace(record, name=checked_text(wanted.name or "", "name"))
        if wanted.metadata is not msgspec.UNSET:
            record = replace(record, metadata=_words(wanted.metadata))
        if wanted.expires_after is not msgspec.UNSET:
            record = replace(record, expires_days=wanted.expires_after.days if wanted.expires_after else None)
        return record

    return json_response(describe(app, app.stores.update(store, changed)))


def delete(app: Site, _: Request, store_id: str) -> Response:
    """Delete a store that a client created, with all it holds; the uploaded files stay."""
    app.stores.drop(_own(app, store_id, "deleted"))
    return json_response(Deleted(store_id, "vector_store.deleted"))


def describe(app: Site, store: Store) -> VectorStoreObject:
    """A store with its counts, which opens it."""
    ways = on_their_way(app, store)  # before the store is asked: what is completed by now is in it then
    info = app.stores.port(store).info()
    record = store.record
    known = {
        "provider_id": provider_id(store.service.provider),
        "embedding_model": info.embedding,
        "embedding_dimension": str(info.dimensions),
    }
    counts = FileCounts(info.files - ways.older, info.files - ways.older + ways.total, *ways.by_state)
    return VectorStoreObject(
        id=store.id,
        object="vector_store",
        created_at=record.created_at if record else 0,
        name=record.name if record else store.id,
        usage_bytes=info.bytes,
        file_counts=counts,
        status="in_progress" if counts.in_progress else "completed",
        metadata={**known, **(record.metadata if record else {"chunks": str(info.chunks)})},
        last_active_at=record.last_active_at if record else None,
        expires_after=ExpiresAfter(record.expires_days) if record and record.expires_days else None,
        expires_at=expires_at(record) if record else None,
    )


def on_their_way(app: Site, store: Store) -> Ways:
    """The files that were meant for a store and are not, or not yet, in it as they were meant to be."""
    uploads = app.stores.uploads_if_any() if store.mutable else None
    attached = uploads.attached.of_store(store.id) if uploads else []
    others = [one for one in attached if one.status != "completed"]
    if not others:
        return Ways((0, 0, 0), 0, 0)
    port = app.stores.writable(store)
    states = [one.status for one in others]
    by_state = (states.count("cancelled"), states.count("failed"), states.count("in_progress"))
    return Ways(by_state, len(others), sum(port.file(one.file_id) is not None for one in others))


def _own(app: Site, store_id: str, done: str) -> Store:
    store = app.stores.find(store_id)
    if store.record is None:
        message = f"store {store_id!r} is part of the artifact; it is {done} in the spec, by another build"
        raise ApiError(400, message, param="vector_store_id", code="vector_store_read_only")
    return store


def _home(app: Site, wanted: CreateRequest) -> Service:
    """The service that is to hold a new store; ApiError 400 when none fits what the client asks for."""
    homes = app.stores.homes()
    if not homes:
        message = (
            "this artifact takes no documents; say `mutable: true` at one of the spec's vector_stores, build again"
        )
        raise ApiError(400, message, code="no_mutable_store")
    if wanted.provider_id is not None:
        homes = [one for one in homes if wanted.provider_id in (one.name, one.provider, provider_id(one.provider))]
        if not homes:
            known = ", ".join(sorted({provider_id(one.provider) for one in app.stores.homes()}))
            raise refused("provider_id", f"{wanted.provider_id[:50]!r} takes no new stores; there is {known}")
    if wanted.embedding_model is not None:
        names = sorted({str(one.metadata["embedding_model"]) for one in homes})
        homes = [one for one in homes if one.metadata["embedding_model"] == wanted.embedding_model]
        if not homes:
            shown = f"{wanted.embedding_model[:50]!r} embeds for no mutable store; there is {', '.join(names)}"
            raise refused("embedding_model", shown)
    return homes[0]


def _dimensions(app: Site, service: Service, context: Context) -> int:
    """Of the vectors of the embedding model; a remote one, of which nothing is known at build, is asked."""
    model = str(service.metadata["embedding_model"])
    embeddings = app.services.find(("embeddings",), model)
    for metadata in (service.metadata, embeddings.metadata if embeddings else {}):
        if "embedding_dimension" in metadata:
            return int(metadata["embedding_dimension"])
    opened: Embeddings = app.services.get("embeddings", model)
    return len(opened.embed(["dimensions"], context).vectors[0]) // 4


def _known(app: Site, file_id: str, param: str) -> None:
    try:
        app.stores.uploads.files.get(file_id)
    except ApiError as error:
        error.param = param
        raise


def _words(metadata: dict[str, str] | None) -> dict[str, str]:
    return {checked_text(key, "metadata"): checked_text(text, "metadata") for key, text in (metadata or {}).items()}
