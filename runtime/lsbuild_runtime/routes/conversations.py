"""/v1/conversations: what was said, kept under one id until it is deleted; responses add to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from lsbuild_runtime.http import ApiError, Request, Response, json_response
from lsbuild_runtime.responses.course import entries
from lsbuild_runtime.responses.items import Item, ItemReference, decoded, item_id, named, shown
from lsbuild_runtime.responses.keeping import Responses
from lsbuild_runtime.responses.records import Conversation, Records
from lsbuild_runtime.responses.request import read
from lsbuild_runtime.responses.sql_conversations import conversation_gone
from lsbuild_runtime.routes.fields import Metadata
from lsbuild_runtime.routes.paging import limit, one_of
from lsbuild_runtime.routes.responses import included_in
from lsbuild_runtime.routes.wire import refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

MOST_ADDED = 20
"""OpenAI's most items of one request."""


class CreateRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A conversation, perhaps with what was said already."""

    items: Annotated[list[Item], Meta(max_length=MOST_ADDED)] | None = None
    metadata: Metadata | None = None


class UpdateRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """New words about it, in place of the old."""

    metadata: Metadata | None


class ItemsRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """What to add at its end."""

    items: Annotated[list[Item], Meta(min_length=1, max_length=MOST_ADDED)]


class ConversationObject(Struct):
    """OpenAI's conversation."""

    id: str
    created_at: int
    metadata: dict[str, str]
    object: str = "conversation"


class ConversationDeleted(Struct):
    """The conversation that was deleted."""

    id: str
    object: str = "conversation.deleted"
    deleted: bool = True


class ItemPage(Struct):
    """A page of items."""

    object: str
    data: list[Item]
    first_id: str
    last_id: str
    has_more: bool


def create(app: Site, request: Request, _: str) -> Response:
    """Begin a conversation; the body may be left out."""
    wanted: CreateRequest = read(request, CreateRequest) if request.body else CreateRequest()
    made = Conversation(id=item_id("conv"), created_at=int(app.kept(Responses).clock()), metadata=wanted.metadata or {})
    app.kept(Responses).records.create(made, entries(_named(wanted.items or [])))
    return json_response(described(made))


def retrieve(app: Site, _: Request, conversation_id: str) -> Response:
    """One conversation."""
    return json_response(described(_known(app.kept(Responses).records, conversation_id)))


def update(app: Site, request: Request, conversation_id: str) -> Response:
    """Replace its metadata."""
    wanted: UpdateRequest = read(request, UpdateRequest)
    if not app.kept(Responses).records.update(conversation_id, wanted.metadata or {}):
        raise conversation_gone(conversation_id)
    return retrieve(app, request, conversation_id)


def delete(app: Site, _: Request, conversation_id: str) -> Response:
    """Forget a conversation with its items; responses that belonged to it stay."""
    if not app.kept(Responses).records.drop(conversation_id):
        raise conversation_gone(conversation_id)
    return json_response(ConversationDeleted(conversation_id))


def add(app: Site, request: Request, conversation_id: str) -> Response:
    """Add items at its end."""
    wanted: ItemsRequest = read(request, ItemsRequest)
    include = included_in(request)
    added = _named(wanted.items)
    app.kept(Responses).records.append(conversation_id, entries(added))
    return json_response(_page([shown(item, include) for item in added], more=False))


def items(app: Site, request: Request, conversation_id: str) -> Response:
    """Its items, newest first unless ``order`` is asc."""
    records, query = app.kept(Responses).records, request.query
    include = included_in(request)
    _known(records, conversation_id)
    newest_first = one_of(query, "order", ("asc", "desc"), "desc") == "desc"
    found = records.items(conversation_id, limit=limit(query), newest_first=newest_first, after=query.get("after"))
    data = decoded(b"[" + b",".join(found.values) + b"]")
    return json_response(_page([shown(item, include) for item in data], found.more))


def item(app: Site, request: Request, conversation_id: str, item_id: str) -> Response:
    """One of its items."""
    records = app.kept(Responses).records
    _known(records, conversation_id)
    body = records.entry(conversation_id, item_id)
    if body is None:
        raise _no_item(item_id)
    return json_response(shown(decoded(b"[" + body + b"]")[0], included_in(request)))


def remove(app: Site, request: Request, conversation_id: str, item_id: str) -> Response:
    """Take an item out."""
    _known(app.kept(Responses).records, conversation_id)
    if not app.kept(Responses).records.remove(conversation_id, item_id):
        raise _no_item(item_id)
    return retrieve(app, request, conversation_id)


def described(conversation: Conversation) -> ConversationObject:
    """A conversation as OpenAI shows it."""
    return ConversationObject(conversation.id, conversation.created_at, dict(conversation.metadata))


def _known(records: Records, conversation_id: str) -> Conversation:
    found = records.conversation(conversation_id)
    if found is None:
        raise conversation_gone(conversation_id)
    return found


def _named(given: list[Item]) -> list[Item]:
    for place, each in enumerate(given):
        if isinstance(each, ItemReference):
            raise refused(f"items[{place}].type", "a conversation keeps items themselves, no references")
    return [named(each) for each in given]


def _page(data: list[Item], more: bool) -> ItemPage:
    first, last = (data[0].id or "", data[-1].id or "") if data else ("", "")
    return ItemPage("list", data, first, last, more)


def _no_item(item_id: str) -> ApiError:
    return ApiError(
        404, f"Item with id {item_id[:100]!r} not found in this conversation.", param="item_id", code="not_found"
    )
