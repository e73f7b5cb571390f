"""What is kept of responses and conversations, as a Protocol with its values; who keeps it is a service of API ``state``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from lsbuild_runtime.tools import Found

State = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
OPEN: tuple[State, ...] = ("queued", "in_progress")
"""States of a response that somebody still works at, or will."""


class Limits(Struct, frozen=True):
    """What is kept, and for how long. A response goes ``days`` after it began, the oldest before that when all together
    are more than ``bytes``; conversations stay. ``queue`` are responses that may wait in the background, ``deadline`` the
    seconds that one may take there, ``lease`` those after which a silent server's responses are another's."""

    days: int = 30
    bytes: int = 1 << 30
    queue: int = 100
    deadline: float = 1800.0
    lease: float = 30.0


class Kept(Struct, frozen=True, kw_only=True):
    """One response. ``body`` is the response as JSON with all its items, ``input`` are the items of its request.

    ``run`` is what it takes to begin it again (JSON); empty when it has ended.
    """

    id: str
    created_at: int
    status: State
    model: str
    background: bool = False
    previous: str = ""
    conversation: str = ""
    body: bytes
    input: bytes = b"[]"
    run: bytes = b""
    tries: int = 0
    """How often it was begun or taken up again."""


class Step(Struct, frozen=True, kw_only=True):
    """What a run had after one of its steps; it can go on from the last of them.

    ``messages`` are what the step added to the conversation of the model, ``output`` all items of the response so far,
    ``usage`` prompt, completion and cached tokens of all steps so far, ``used`` steps, calls and tokens of its limits,
    ``sequence`` the number of the next event, ``found`` the passages that its searches gave.
    """

    messages: Sequence[Mapping[str, Any]]
    output: msgspec.Raw
    used: tuple[int, int, int]
    usage: tuple[int, int, int]
    tainted: bool
    sequence: int
    found: tuple[Found, ...] = ()


class Conversation(Struct, frozen=True, kw_only=True):
    """One conversation; ``metadata`` are the client's own words."""

    id: str
    created_at: int
    metadata: Mapping[str, str] = {}


class Entry(Struct, frozen=True):
    """One kept item: its id and its JSON."""

    id: str
    body: bytes


class Page(Struct, frozen=True):
    """Some of a list, and whether there is more behind it."""

    values: list[Any]
    more: bool


class Records(Protocol):
    """Safe for use from several threads and processes. What a method has acknowledged by returning is on the disk.

    A response that is open belongs to one ``owner``, a server; what an owner writes that has lost it is not kept, and the
    method says False. Errors: ApiError 404 for what is not there, 507 when the disk is full or ``Limits.bytes`` are
    reached, 503 when nothing can be kept now.
    """

    limits: Limits
    leases: bool
    """Whether an owner has to ``renew``."""

    # Responses

    def begin(self, kept: Kept, owner: str, events: Sequence[bytes] = ()) -> None:
        """Keep a response that begins now (``owner`` "" when it is queued), with its first events.

        ApiError 409 when another one of its conversation is open, 429 when too many are queued.
        """
        ...

    def step(self, response: str, owner: str, step: Step, events: Sequence[bytes] = ()) -> bool:
        """Keep a step, and the events (JSON) since the last one."""
        ...

    def end(
        self, response: str, owner: str, status: State, body: bytes, outputs: Sequence[Entry],
        events: Sequence[bytes] = (), inputs: Sequence[Entry] = (),
    ) -> bool:  # fmt: skip
        """Keep a response that has ended; its input and output go to its conversation, if it has one."""
        ...

    def get(self, response: str) -> Kept | None:
        """One response."""
        ...

    def chain(self, response: str) -> list[Kept]:
        """A response after all those that it follows, the first before; empty when one of them is gone."""
        ...

    def page(self, *, limit: int, newest_first: bool, after: str | None, model: str | None) -> Page:
        """Responses in the order they began; ApiError 400 when ``after`` is unknown."""
        ...

    def cancel(self, response: str, body: bytes) -> bool:
        """End an open response as cancelled; False when it is not open."""
        ...

    def delete(self, response: str) -> bool:
        """Forget a response; False when there is none."""
        ...

    def item(self, item: str) -> bytes | None:
        """An item of the output of some kept response, as JSON."""
        ...

    def steps(self, response: str) -> list[Step]:
        """The steps of an open response."""
        ...

    def events(self, response: str, after: int) -> list[tuple[int, bytes]]:
        """Kept events with a larger number than ``after``, each with its number."""
        ...

    # Who works at what

    def enter(self, owner: str) -> None:
        """Say that this process is ``owner`` until it ends; before it begins or takes anything."""
        ...

    def take(self, owner: str) -> Kept | None:
        """Make the oldest response that waits, or whose owner is gone, this owner's; given as it was before."""
        ...

    def leave(self, owner: str) -> None:
        """This owner works no more; what it has open is anybody's at once."""
        ...

    def release(self, response: str, owner: str) -> None:
        """This owner gives up one response; it goes on from its last kept step, here or elsewhere."""
        ...

    def renew(self, owner: str) -> None:
        """Say that this owner is alive; called more often than ``Limits.lease``."""
        ...

    def waiting(self) -> bool:
        """Whether ``take`` would find something now."""
        ...

    def expire(self) -> None:
        """Forget what is too old or too much."""
        ...

    # Conversations

    def create(self, conversation: Conversation, items: Sequence[Entry]) -> None:
        """Keep a new conversation."""
        ...

    def conversation(self, conversation: str) -> Conversation | None:
        """One conversation."""
        ...

    def update(self, conversation: str, metadata: Mapping[str, str]) -> bool:
        """Replace its metadata; False when there is none."""
        ...

    def drop(self, conversation: str) -> bool:
        """Forget a conversation with its items; False when there is none."""
        ...

    def append(self, conversation: str, items: Sequence[Entry]) -> None:
        """Add items at its end."""
        ...

    def items(self, conversation: str, *, limit: int | None, newest_first: bool, after: str | None) -> Page:
        """Its items (their JSON); ApiError 400 when ``after`` is unknown."""
        ...

    def entry(self, conversation: str, item: str) -> bytes | None:
        """One of its items as JSON."""
        ...

    def remove(self, conversation: str, item: str) -> bool:
        """Take an item out; False when it is not there."""
        ...

    def close(self) -> None:
        """Close what is open; the next call opens it again."""
        ...
