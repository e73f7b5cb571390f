"""/v1/vector_stores/{id}/file_batches: many files into a store by one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.http import Request, Response, json_response
from lsbuild_runtime.routes.chunking import ChunkingStrategy, chunking
from lsbuild_runtime.routes.fields import Attributes, checked_attributes
from lsbuild_runtime.routes.vector_files import AttachRequest, documents, paged
from lsbuild_runtime.routes.vector_stores import MOST_FILES, FileCounts
from lsbuild_runtime.routes.wire import decode, refused
from lsbuild_runtime.uploads.attached import Batch, Wish

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site
    from lsbuild_runtime.stores import Store


class BatchRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """``file_ids`` share attributes and chunking; each of ``files`` has its own."""

    file_ids: Annotated[list[str], Meta(min_length=1, max_length=MOST_FILES)] | None = None
    files: Annotated[list[AttachRequest], Meta(min_length=1, max_length=MOST_FILES)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class VectorStoreFileBatch(Struct):
    """How far a batch is."""

    id: str
    object: str
    created_at: int
    vector_store_id: str
    status: str
    file_counts: FileCounts


_DECODER = msgspec.json.Decoder(BatchRequest)


def create(app: Site, request: Request, store_id: str) -> Response:
    """Queue all files of a batch, or none when one of them is unknown."""
    store = app.stores.find(store_id)
    app.stores.writable(store)
    wishes = _wishes(app, store, decode(request, _DECODER))
    batch = app.stores.uploads.attached.add_batch(store.id, wishes)
    app.stores.touch(store)
    app.stores.wake()
    return json_response(described(app, batch))


def retrieve(app: Site, _: Request, store_id: str, batch_id: str) -> Response:
    """One batch."""
    return json_response(described(app, _batch(app, store_id, batch_id)))


def cancel(app: Site, _: Request, store_id: str, batch_id: str) -> Response:
    """Give up the files that are not stored yet."""
    batch = app.stores.uploads.attached.cancel(_batch(app, store_id, batch_id))
    app.stores.wake()
    return json_response(described(app, batch))


def listing(app: Site, request: Request, store_id: str, batch_id: str) -> Response:
    """The files of a batch; ``filter`` keeps those of one state."""
    batch = _batch(app, store_id, batch_id)
    members = {one.file_id for one in app.stores.uploads.attached.of_batch(batch)}
    files = [file for file in documents(app, app.stores.find(store_id)) if file.id in members]
    return json_response(paged(files, request.query))


def described(app: Site, batch: Batch) -> VectorStoreFileBatch:
    """A batch as OpenAI shows it."""
    states = [one.status for one in app.stores.uploads.attached.of_batch(batch)]
    counts = FileCounts(
        completed=states.count("completed"),
        total=len(states),
        cancelled=states.count("cancelled"),
        failed=states.count("failed"),
        in_progress=states.count("in_progress"),
    )
    status = "in_progress" if counts.in_progress else "completed"
    if batch.cancelled:
        status = "cancelled"
    elif states and counts.failed == counts.total:
        status = "failed"
    return VectorStoreFileBatch(batch.id, "vector_store.files_batch", batch.created_at, batch.store, status, counts)


def _batch(app: Site, store_id: str, batch_id: str) -> Batch:
    store = app.stores.find(store_id)
    app.stores.writable(store)
    return app.stores.uploads.attached.batch(store.id, batch_id)


def _wishes(app: Site, store: Store, wanted: BatchRequest) -> list[Wish]:
    if (wanted.file_ids is None) == (wanted.files is None):
        raise refused("file_ids", "give either file_ids or files")
    if wanted.files is not None and (wanted.attributes is not None or wanted.chunking_strategy is not None):
        given = "attributes" if wanted.attributes is not None else "chunking_strategy"
        raise refused(given, "belongs to file_ids; each of files has its own")
    files = wanted.files or [
        AttachRequest(file_id=file_id, attributes=wanted.attributes, chunking_strategy=wanted.chunking_strategy)
        for file_id in wanted.file_ids or ()
    ]
    if len({file.file_id for file in files}) < len(files):
        raise refused("files" if wanted.files else "file_ids", "a file is named twice")
    return [
        Wish(
            file.file_id,
            checked_attributes(file.attributes, "attributes"),
            chunking(app, store.service, file.chunking_strategy),
        )
        for file in files
    ]
