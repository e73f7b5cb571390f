"""/v1/responses: the request is read here, worked at by ``lsbuild_runtime.responses``, and answered whole or as a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lsbuild_runtime.http import ApiError, Context, Errors, Request, Response, json_response, streamed
from lsbuild_runtime.responses.answer import (
    CompactedResponse,
    InputItems,
    InputTokens,
    ListedResponse,
    ResponseDeleted,
    ResponseObject,
    ResponsePage,
    StreamEvent,
)
from lsbuild_runtime.responses.compacting import compacted, counted
from lsbuild_runtime.responses.items import decoded, shown
from lsbuild_runtime.responses.keeping import Responses
from lsbuild_runtime.responses.preparing import prepared
from lsbuild_runtime.responses.request import CompactRequest, CountRequest, ResponseRequest, converted, included, read
from lsbuild_runtime.routes.paging import limit, one_of, page
from lsbuild_runtime.routes.wire import decode, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

__all__ = [
    "CompactRequest", "CompactedResponse", "CountRequest", "InputItems", "InputTokens", "ResponseDeleted", "ResponseObject",
    "ResponsePage", "ResponseRequest", "cancel", "compact", "create", "delete", "input_items", "input_tokens", "listing",
    "retrieve",
]  # fmt: skip

_RAW = msgspec.json.Decoder(dict[str, Any])


class _ResponseErrors(Errors):
    """OpenAI's errors; in a stream they are events with a name, as all others there."""

    def event(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 - one answer for all
        """See http.Errors."""
        body = {
            "type": "error",
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "sequence_number": 0,
        }
        return b"event: error\ndata: " + msgspec.json.encode(body) + b"\n\n"


ERRORS = _ResponseErrors()


def create(app: Site, request: Request, _: str) -> Response:
    """Respond: whole, as a stream, or in the background."""
    raw = decode(request, _RAW)
    wanted: ResponseRequest = converted(raw)
    responses = app.kept(Responses)
    records = responses.records_for(wanted)
    work = prepared(app, wanted, lambda: responses.records, int(responses.clock()))
    context = request.context
    context.affinity = work.affinity
    if wanted.background and records is not None:
        response = responses.enqueue(work, raw, records)
        if not wanted.stream:
            return json_response(response)
        return _followed(app, responses.get(response.id), -1, context)
    events = responses.begin(work, raw, records, context)
    if wanted.stream:
        return streamed(events, _frame, ERRORS, context.request_id)
    for event in events:
        if not isinstance(event.response, msgspec.UnsetType):
            last = event
    return json_response(last.response)


def listing(app: Site, request: Request, _: str) -> Response:
    """Kept responses with their input, newest first, as Llama Stack lists them."""
    query = request.query
    newest_first = one_of(query, "order", ("asc", "desc"), "desc") == "desc"
    found = app.kept(Responses).records.page(
        limit=limit(query, 50), newest_first=newest_first, after=query.get("after"), model=query.get("model")
    )
    data = []
    for kept in found.values:
        response = app.kept(Responses).view(kept)
        fields = {name: getattr(response, name) for name in response.__struct_fields__}
        data.append(ListedResponse(**fields, input=[shown(item, frozenset()) for item in decoded(kept.input)]))
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return json_response(ResponsePage("list", data, first, last, found.more))


def retrieve(app: Site, request: Request, response_id: str) -> Response:
    """One response; of one in the background also the events, from any of them on."""
    query = request.query
    include = included_in(request)
    if one_of(query, "include_obfuscation", ("true", "false"), "false") == "true":
        raise refused("include_obfuscation", "deltas are not padded here; say false")
    kept = app.kept(Responses).get(response_id)
    if one_of(query, "stream", ("true", "false"), "false") == "false":
        if "starting_after" in query:
            raise refused("starting_after", "only allowed when stream is true")
        return json_response(app.kept(Responses).view(kept, include))
    if not kept.background:
        raise refused(
            "stream", "only responses in the background can be streamed again; this one was answered to its client"
        )
    return _followed(app, kept, _number(query.get("starting_after", "-1")), request.context)


def delete(app: Site, _: Request, response_id: str) -> Response:
    """Forget a response; it stops if it is under way."""
    app.kept(Responses).delete(response_id)
    return json_response(ResponseDeleted(response_id))


def cancel(app: Site, _: Request, response_id: str) -> Response:
    """Stop a response in the background; one that has ended stays as it is."""
    return json_response(app.kept(Responses).view(app.kept(Responses).cancel(response_id)))


def input_items(app: Site, request: Request, response_id: str) -> Response:
    """What the request of a response sent as ``input``, newest first."""
    kept = app.kept(Responses).get(response_id)
    include = included_in(request)
    part = page(decoded(kept.input), lambda item: item.id or "", request.query)
    data = [shown(item, include) for item in part.values]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return json_response(InputItems("list", data, first, last, part.more))


def compact(app: Site, request: Request, _: str) -> Response:
    """Put a conversation into few words."""
    return json_response(compacted(app, read(request, CompactRequest), request.context))


def input_tokens(app: Site, request: Request, _: str) -> Response:
    """Count what a request would be read as."""
    return json_response(InputTokens(counted(app, read(request, CountRequest), request.context)))


def included_in(request: Request) -> frozenset[str]:
    """What the query wants to see; several are joined by commas (see serve.asgi)."""
    given = ",".join(request.query[name] for name in ("include", "include[]") if name in request.query)
    return included(given.split(",") if given else None)


def _followed(app: Site, kept: Any, after: int, context: Context) -> Response:
    return streamed(app.kept(Responses).follow(kept, after, context), _framed, ERRORS, context.request_id)


class _Typed(msgspec.Struct):
    type: str


_TYPED = msgspec.json.Decoder(_Typed)


def _frame(event: StreamEvent) -> bytes:
    return b"event: " + event.type.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _framed(event: bytes) -> bytes:
    """An event that is JSON already."""
    return b"event: " + _TYPED.decode(event).type.encode() + b"\ndata: " + event + b"\n\n"


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(text) > 15:
        raise refused("starting_after", f"expected the sequence_number of an event, got {text[:20]!r}")
    return int(text)
