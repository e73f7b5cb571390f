"""/v1/batches: a file of requests, answered in the background, in OpenAI's form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.batches.batches import Batches
from lsbuild_runtime.batches.lines import Fault
from lsbuild_runtime.batches.records import UNFINISHED, Batch, Wanted
from lsbuild_runtime.http import ApiError, Request, Response, json_response
from lsbuild_runtime.routes.fields import Metadata, checked_text
from lsbuild_runtime.routes.paging import limit
from lsbuild_runtime.routes.wire import decode, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site


class OutputExpiry(Struct, forbid_unknown_fields=True):
    """How long the files of answers are kept after they are written."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3_600, le=2_592_000)]


class BatchCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's request; ``idempotency_key`` is Llama Stack's: the same one makes no second batch."""

    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class BatchErrors(Struct):
    """What is wrong with the whole file."""

    object: str
    data: list[Fault]


class BatchCounts(Struct):
    """How many requests there are, and how many have their answer."""

    total: int
    completed: int
    failed: int


class BatchInputDetails(Struct):
    """Of the input's tokens."""

    cached_tokens: int


class BatchOutputDetails(Struct):
    """Of the output's tokens."""

    reasoning_tokens: int


class BatchUsage(Struct):
    """Tokens of all answers."""

    input_tokens: int
    input_tokens_details: BatchInputDetails
    output_tokens: int
    output_tokens_details: BatchOutputDetails
    total_tokens: int


class BatchObject(Struct, kw_only=True):
    """OpenAI's batch."""

    id: str
    object: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: str
    errors: BatchErrors | None
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(Struct):
    """A page of batches."""

    object: str
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


_DECODER = msgspec.json.Decoder(BatchCreate)


def create(app: Site, request: Request, _: str) -> Response:
    """Queue a batch; it is on the disk when the answer is sent, and outlives the server."""
    wanted = decode(request, _DECODER)
    batches = app.kept(Batches)
    if wanted.endpoint not in batches.endpoints:
        raise refused("endpoint", f"expected one of {', '.join(batches.endpoints)}, got {wanted.endpoint[:60]!r}")
    _input(app, wanted.input_file_id)
    for name, text in (wanted.metadata or {}).items():
        checked_text(name + text, f"metadata.{name[:64]}")
    checked_text(wanted.idempotency_key or "", "idempotency_key")
    keep = wanted.output_expires_after
    made = batches.records.add(
        Wanted(
            endpoint=wanted.endpoint,
            input=wanted.input_file_id,
            metadata=wanted.metadata or {},
            keep=None if keep is None else keep.seconds,
            key=wanted.idempotency_key,
        )
    )
    batches.wake()
    return json_response(described(made))


def _input(app: Site, file_id: str) -> None:
    try:
        file = app.stores.uploads.files.get(checked_text(file_id, "input_file_id"))
    except ApiError as error:
        if error.status != 404:
            raise
        raise refused("input_file_id", f"no file {file_id[:100]!r}; POST /v1/files with purpose=batch") from error
    if file.purpose != "batch":
        raise refused("input_file_id", f"the file's purpose is {file.purpose!r}; upload it with purpose=batch")


def listing(app: Site, request: Request, _: str) -> Response:
    """The batches, newest first."""
    part = app.kept(Batches).records.page(limit(request.query), request.query.get("after"))
    data = [described(batch) for batch in part.batches]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return json_response(BatchList("list", data, first, last, part.more))


def retrieve(app: Site, _: Request, batch_id: str) -> Response:
    """One batch."""
    return json_response(described(app.kept(Batches).records.get(batch_id)))


def cancel(app: Site, _: Request, batch_id: str) -> Response:
    """Ask no more of its lines; answers that are there are kept."""
    batches = app.kept(Batches)
    batch = batches.records.cancel(batch_id)
    batches.wake()
    return json_response(described(batch))


def described(batch: Batch) -> BatchObject:
    """A batch as OpenAI shows it."""
    usage, times = batch.usage, batch.times
    return BatchObject(
        id=batch.id,
        object="batch",
        endpoint=batch.endpoint,
        input_file_id=batch.input,
        completion_window="24h",
        status=batch.status,
        errors=BatchErrors("list", batch.errors) if batch.errors else None,
        output_file_id=None if batch.status in UNFINISHED else batch.output,
        error_file_id=None if batch.status in UNFINISHED else batch.error,
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        in_progress_at=times.get("in_progress"),
        finalizing_at=times.get("finalizing"),
        completed_at=times.get("completed"),
        failed_at=times.get("failed"),
        expired_at=times.get("expired"),
        cancelling_at=times.get("cancelling"),
        cancelled_at=times.get("cancelled"),
        request_counts=BatchCounts(batch.total, batch.completed, batch.failed),
        usage=BatchUsage(
            input_tokens=usage.prompt,
            input_tokens_details=BatchInputDetails(usage.cached),
            output_tokens=usage.completion,
            output_tokens_details=BatchOutputDetails(0),
            total_tokens=usage.prompt + usage.completion,
        ),
        metadata=batch.metadata or None,
    )
