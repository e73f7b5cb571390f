"""/v1/vector_stores/{id}/files: the documents of a store that takes them, stored ones and those on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from lsbuild_runtime.http import ApiError, Request, Response, json_response
from lsbuild_runtime.routes.chunking import ChunkingStrategy, StaticStrategy, chunking, shown, usual
from lsbuild_runtime.routes.fields import Attributes, checked_attributes
from lsbuild_runtime.routes.paging import one_of, page
from lsbuild_runtime.routes.vector_stores import Deleted
from lsbuild_runtime.routes.wire import decode
from lsbuild_runtime.uploads.attached import Attached, Wish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lsbuild_runtime.mutable import StoredFile
    from lsbuild_runtime.routing import Site
    from lsbuild_runtime.stores import Store

STATES = ("in_progress", "completed", "failed", "cancelled")


class AttachRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A file to be read into a store."""

    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class AttributesRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The attributes that a file is to have from now on; null and {} take all away."""

    attributes: Attributes | None


class LastError(Struct):
    """Why a file was not stored."""

    code: str
    message: str


class VectorStoreFile(Struct):
    """One document of a store."""

    id: str
    object: str
    created_at: int
    vector_store_id: str
    status: str
    usage_bytes: int
    attributes: dict[str, Any]
    chunking_strategy: StaticStrategy
    last_error: LastError | None = None


class VectorStoreFileList(Struct):
    """A page of documents."""

    object: str
    data: list[VectorStoreFile]
    first_id: str | None
    last_id: str | None
    has_more: bool


class TextPart(Struct):
    """One passage."""

    type: str
    text: str


class FileContent(Struct):
    """The text of a document as it is stored, passage by passage."""

    object: str
    data: list[TextPart]
    has_more: bool = False
    next_page: str | None = None


_ATTACH = msgspec.json.Decoder(AttachRequest)
_ATTRIBUTES = msgspec.json.Decoder(AttributesRequest)


def attach(app: Site, request: Request, store_id: str) -> Response:
    """Queue a file for a store, in place of what the store has of it."""
    store = app.stores.find(store_id)
    app.stores.writable(store)
    wanted = decode(request, _ATTACH)
    sizes = chunking(app, store.service, wanted.chunking_strategy)
    wish = Wish(wanted.file_id, checked_attributes(wanted.attributes, "attributes"), sizes)
    (attached,) = app.stores.uploads.attached.add(store.id, [wish])
    app.stores.touch(store)
    app.stores.wake()
    return json_response(on_its_way(attached))


def listing(app: Site, request: Request, store_id: str) -> Response:
    """The documents, newest first; ``filter`` keeps those of one state."""
    return json_response(paged(documents(app, app.stores.find(store_id)), request.query))


def retrieve(app: Site, _: Request, store_id: str, file_id: str) -> Response:
    """One document."""
    return json_response(_one(app, app.stores.find(store_id), file_id))


def update(app: Site, request: Request, store_id: str, file_id: str) -> Response:
    """Replace the attributes of a document, a compiled one too."""
    store = app.stores.find(store_id)
    port = app.stores.writable(store)
    attributes = checked_attributes(decode(request, _ATTRIBUTES).attributes, "attributes")
    uploads = app.stores.uploads_if_any()
    known = uploads.attached.describe(store.id, file_id, attributes) if uploads else False
    if not port.set_attributes(file_id, attributes) and not known:
        raise _not_found(store, file_id)
    return json_response(_one(app, store, file_id))


def delete(app: Site, _: Request, store_id: str, file_id: str) -> Response:
    """Take a document out of the store; the uploaded file stays."""
    store = app.stores.find(store_id)
    port = app.stores.writable(store)
    uploads = app.stores.uploads_if_any()
    given_up = uploads.attached.detach(store.id, file_id) if uploads else []
    if given_up:
        app.stores.release(given_up)
    elif not port.remove(file_id):
        raise _not_found(store, file_id)
    return json_response(Deleted(file_id, "vector_store.file.deleted"))


def content(app: Site, _: Request, store_id: str, file_id: str) -> Response:
    """The passages of a document; none while it is on its way."""
    store = app.stores.find(store_id)
    _one(app, store, file_id)
    parts = [TextPart("text", passage.text) for passage in app.stores.writable(store).passages(file_id)]
    return json_response(FileContent("vector_store.file_content.page", parts))


def documents(app: Site, store: Store) -> list[VectorStoreFile]:
    """All documents of a store, oldest first: what it holds, then what is known of their ways into it."""
    port = app.stores.writable(store)
    uploads = app.stores.uploads_if_any()
    # In this order: what is completed by the time the first is read is in the store when the second is.
    ways = uploads.attached.of_store(store.id) if uploads else []
    found = {file.file_id: stored(store, file) for file in port.files()}
    for attached in ways:
        _merge(found, attached)
    return sorted(found.values(), key=lambda file: (file.created_at, file.id))


def paged(files: list[VectorStoreFile], query: Mapping[str, str]) -> VectorStoreFileList:
    """The page that a query asks for."""
    wanted = one_of(query, "filter", STATES, "") if "filter" in query else ""
    part = page([file for file in files if wanted in ("", file.status)], lambda file: file.id, query)
    first, last = (part.values[0].id, part.values[-1].id) if part.values else (None, None)
    return VectorStoreFileList("list", part.values, first, last, part.more)


def stored(store: Store, file: StoredFile) -> VectorStoreFile:
    """A document that the store holds."""
    return VectorStoreFile(
        id=file.file_id,
        object="vector_store.file",
        created_at=file.created_at,
        vector_store_id=store.id,
        status="completed",
        usage_bytes=file.bytes,
        attributes=dict(file.attributes),
        chunking_strategy=shown(usual(store.service)),
    )


def on_its_way(attached: Attached) -> VectorStoreFile:
    """A document that the store does not hold as it was asked for."""
    return VectorStoreFile(
        id=attached.file_id,
        object="vector_store.file",
        created_at=attached.created_at,
        vector_store_id=attached.store,
        status=attached.status,
        usage_bytes=0,
        attributes=dict(attached.attributes),
        chunking_strategy=shown(attached.chunking),
        last_error=LastError(attached.code, attached.message) if attached.code else None,
    )


def _merge(found: dict[str, VectorStoreFile], attached: Attached) -> None:
    if attached.status != "completed":
        found[attached.file_id] = on_its_way(attached)
    elif attached.file_id in found:
        found[attached.file_id].chunking_strategy = shown(attached.chunking)


def _one(app: Site, store: Store, file_id: str) -> VectorStoreFile:
    port = app.stores.writable(store)
    uploads = app.stores.uploads_if_any()
    attached = uploads.attached.get(store.id, file_id) if uploads else None  # before the store, as in `documents`
    file = port.file(file_id)
    found = {file_id: stored(store, file)} if file else {}
    if attached is not None:
        _merge(found, attached)
    if file_id not in found:
        raise _not_found(store, file_id)
    return found[file_id]


def _not_found(store: Store, file_id: str) -> ApiError:
    message = f"no file {file_id[:100]!r} in store {store.id!r}; GET /v1/vector_stores/{store.id}/files lists them"
    return ApiError(404, message, code="file_not_found")
