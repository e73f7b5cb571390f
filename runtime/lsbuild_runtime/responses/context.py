"""What a response reads besides its own input: the responses before it, its conversation, items named by their ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.responses.items import (
    InputText,
    Item,
    ItemReference,
    McpApprovalResponse,
    Message,
    decoded,
    named,
)
from lsbuild_runtime.responses.records import OPEN, Kept, Records
from lsbuild_runtime.responses.request import Asked
from lsbuild_runtime.responses.sql_conversations import conversation_gone
from lsbuild_runtime.routes.fields import checked_text
from lsbuild_runtime.routes.wire import refused

MOST_ITEMS = 10_000
"""Items of a conversation that one response may read."""
Keep = Callable[[], Records]
"""Gives the records; ApiError 503 says what to do where there are none."""


def own_items(wanted: Asked, *, required: bool) -> list[Item]:
    """The items of the request's own ``input``."""
    if wanted.input is None or wanted.input == []:
        if required and wanted.previous_response_id is None and wanted.conversation is None:
            raise refused("input", "this parameter is required", "missing_required_parameter")
        return []
    if isinstance(wanted.input, str):
        checked_text(wanted.input, "input")
        return [named(Message(role="user", content=[InputText(wanted.input)]))]
    if len(wanted.input) > MOST_ITEMS:
        raise refused("input", f"{len(wanted.input)} items; at most {MOST_ITEMS} are taken")
    _check_answered_once(wanted.input)
    return [item if isinstance(item, ItemReference) else named(item) for item in wanted.input]


def _check_answered_once(items: Sequence[Item]) -> None:
    """Two answers to one question may say yes and no: nobody should have to guess which one is meant."""
    seen: set[str] = set()
    for place, item in enumerate(items):
        if isinstance(item, McpApprovalResponse):
            if item.approval_request_id in seen:
                raise refused(f"input[{place}].approval_request_id", "this request is answered more than once")
            seen.add(item.approval_request_id)


def context_items(wanted: Asked, own: Sequence[Item], records: Keep) -> tuple[list[Item], str]:
    """All items that the model is told of, the request's own last, and the id of the first response of the chain."""
    earlier: list[Item] = []
    root = ""
    if wanted.previous_response_id is not None:
        chain = _chain(records(), wanted.previous_response_id)
        root = chain[0].id
        for kept in chain:
            earlier += [*decoded(kept.input), *output_of(kept)]
    elif wanted.conversation_id:
        earlier = conversation_items(records(), wanted.conversation_id)
    known = {item.id: item for item in [*earlier, *own] if not isinstance(item, ItemReference)}
    resolved = [_resolved(item, known, records, place) for place, item in enumerate(own)]
    return [*earlier, *resolved], root


def conversation_items(records: Records, conversation: str) -> list[Item]:
    """All items of a conversation; ApiError 404 when there is none."""
    if records.conversation(conversation) is None:
        raise conversation_gone(conversation)
    page = records.items(conversation, limit=MOST_ITEMS, newest_first=True, after=None)
    return decoded(b"[" + b",".join(reversed(page.values)) + b"]")


def output_of(kept: Kept) -> list[Item]:
    """The items of a kept response."""
    return msgspec.json.decode(kept.body, type=_Output).output


class _Output(Struct):
    output: list[Item]


def _chain(records: Records, response: str) -> list[Kept]:
    chain = records.chain(response)
    if not chain:
        message = (
            f"previous_response_id: the response {response[:80]!r}, or one before it, is not there; was it stored?"
        )
        raise ApiError(404, message, param="previous_response_id", code="previous_response_not_found")
    if chain[-1].status in OPEN:
        why = f"the response {response!r} has not ended; wait for it or cancel it"
        raise refused("previous_response_id", why)
    return chain


def _resolved(item: Item, known: Mapping[str | None, Item], records: Keep, place: int) -> Item:
    if not isinstance(item, ItemReference):
        return item
    if item.id in known:
        return known[item.id]
    body = records().item(item.id or "")
    if body is None:
        raise ApiError(
            404, f"input[{place}].id: no item {item.id!r} is kept", param=f"input[{place}].id", code="not_found"
        )
    return decoded(b"[" + body + b"]")[0]
