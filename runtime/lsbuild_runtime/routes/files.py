"""/v1/files: what clients uploaded, kept until it is deleted or its time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from msgspec import Struct

from lsbuild_runtime.http import Request, Response, json_response
from lsbuild_runtime.routes.paging import limit, one_of
from lsbuild_runtime.routes.wire import refused
from lsbuild_runtime.uploads.files import File, not_found
from lsbuild_runtime.uploads.form import read_form

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

PURPOSES = ("assistants", "user_data", "batch", "fine-tune", "vision", "evals")
MOST_LISTED = 10_000
_EXPIRY = ("expires_after[anchor]", "expires_after[seconds]")
_SHORTEST, _LONGEST = 3_600, 2_592_000
"""OpenAI's bounds of expiry: an hour to 30 days."""


class UploadForm(Struct):
    """The parts of the form; ``expires_after`` comes as ``expires_after[anchor]`` and ``expires_after[seconds]``."""

    file: bytes
    purpose: str


class FileObject(Struct):
    """OpenAI's file."""

    id: str
    object: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    expires_at: int | None


class FileList(Struct):
    """A page of files."""

    object: str
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Struct):
    """The file that was deleted."""

    id: str
    object: str
    deleted: bool


def create(app: Site, request: Request, _: str) -> Response:
    """Keep an upload; it is on the disk when the answer is sent."""
    uploads = app.stores.uploads
    form = read_form(request)
    for name in form.fields:
        if name not in ("purpose", *_EXPIRY):
            raise refused(name, "unknown or unsupported parameter", "unknown_parameter")
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise refused("purpose", "this parameter is required", "missing_required_parameter")
    if purpose not in PURPOSES:
        raise refused("purpose", f"expected one of {', '.join(PURPOSES)}, got {purpose[:30]!r}")
    if not form.content:
        raise refused("file", "the file is empty")
    seconds = _seconds(form.fields, purpose)
    return json_response(described(uploads.files.add(form.filename, purpose, form.content, seconds)))


def listing(app: Site, request: Request, _: str) -> Response:
    """The files, newest first; ``purpose`` keeps those of one."""
    query = request.query
    newest_first = one_of(query, "order", ("asc", "desc"), "desc") == "desc"
    size = limit(query, MOST_LISTED, MOST_LISTED)
    files = app.stores.uploads.files
    part = files.page(limit=size, newest_first=newest_first, after=query.get("after"), purpose=query.get("purpose"))
    data = [described(file) for file in part.files]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return json_response(FileList("list", data, first, last, part.more))


def retrieve(app: Site, _: Request, file_id: str) -> Response:
    """One file."""
    return json_response(described(app.stores.uploads.files.get(file_id)))


def content(app: Site, _: Request, file_id: str) -> Response:
    """A file's bytes. They are a client's own: a browser is told to save them, and not to guess what they are."""
    file, data = app.stores.uploads.files.whole(file_id)
    name = quote(file.filename, safe="")
    headers = {
        "content-type": "application/octet-stream",
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "x-content-type-options": "nosniff",
    }
    return Response(200, data, headers)


def delete(app: Site, _: Request, file_id: str) -> Response:
    """Delete a file, and take it out of every store."""
    given_up = app.stores.uploads.attached.forget_file(file_id)
    if given_up is None:
        raise not_found(file_id)
    app.stores.release(given_up)
    return json_response(FileDeleted(file_id, "file", True))


def described(file: File) -> FileObject:
    """A file as OpenAI shows it."""
    return FileObject(
        id=file.id,
        object="file",
        bytes=file.bytes,
        created_at=file.created_at,
        filename=file.filename,
        purpose=file.purpose,
        status="processed",
        expires_at=file.expires_at,
    )


def _seconds(fields: dict[str, str], purpose: str) -> int | None:
    """How long the file is kept; None: until it is deleted. Batches go after 30 days, as at OpenAI."""
    anchor, text = fields.get(_EXPIRY[0]), fields.get(_EXPIRY[1])
    if anchor is None and text is None:
        return _LONGEST if purpose == "batch" else None
    if anchor != "created_at":
        raise refused(_EXPIRY[0], f"expected created_at, got {(anchor or '')[:30]!r}")
    if text is None or not (text.isascii() and text.isdigit()) or not _SHORTEST <= int(text[:10]) <= _LONGEST:
        raise refused(_EXPIRY[1], f"expected seconds from {_SHORTEST} to {_LONGEST}, got {(text or '')[:30]!r}")
    return int(text)
