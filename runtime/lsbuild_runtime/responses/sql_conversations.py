"""Conversations over a SQL database: the half of records.Records that knows no response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.responses.records import Conversation, Entry, Limits, Page
from lsbuild_runtime.responses.tables import Rows, Statements, Store


class SqlConversations:
    """See records.Records."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.limits = limits
        self._store = store

    def create(self, conversation: Conversation, items: Sequence[Entry]) -> None:
        """See records.Records."""
        self._check_room()
        with self._store.writing() as db:
            values = (conversation.id, conversation.created_at, msgspec.json.encode(conversation.metadata))
            db.execute("INSERT INTO conversations VALUES (?, ?, ?)", values)
            append(db, conversation.id, items)

    def conversation(self, conversation: str) -> Conversation | None:
        """See records.Records."""
        with self._store.reading() as db:
            sql = "SELECT id, created_at, metadata FROM conversations WHERE id = ?"
            row = db.execute(sql, (conversation,)).fetchone()
        if row is None:
            return None
        metadata = msgspec.json.decode(bytes(row[2]), type=dict[str, str])
        return Conversation(id=row[0], created_at=int(row[1]), metadata=metadata)

    def update(self, conversation: str, metadata: Mapping[str, str]) -> bool:
        """See records.Records."""
        with self._store.writing() as db:
            sql = "UPDATE conversations SET metadata = ? WHERE id = ? RETURNING id"
            return bool(db.execute(sql, (msgspec.json.encode(metadata), conversation)).fetchall())

    def drop(self, conversation: str) -> bool:
        """See records.Records."""
        with self._store.writing() as db:
            db.execute("DELETE FROM items WHERE conversation = ?", (conversation,))
            return bool(db.execute("DELETE FROM conversations WHERE id = ? RETURNING id", (conversation,)).fetchall())

    def append(self, conversation: str, items: Sequence[Entry]) -> None:
        """See records.Records."""
        self._check_room()
        with self._store.writing() as db:
            if not known(self._store, db, conversation):
                raise conversation_gone(conversation)
            append(db, conversation, items)

    def items(self, conversation: str, *, limit: int | None, newest_first: bool, after: str | None) -> Page:
        """See records.Records."""
        order, than = ("DESC", "<") if newest_first else ("ASC", ">")
        where, values = "conversation = ?", list[Any]((conversation,))
        with self._store.reading() as db:
            if after is not None:
                row = db.execute(
                    "SELECT seq FROM items WHERE conversation = ? AND id = ?", (conversation, after)
                ).fetchone()
                where, values = f"{where} AND seq {than} ?", [conversation, place_of(row, after, "item")]
            sql = f"SELECT body FROM items WHERE {where} ORDER BY seq {order}"  # noqa: S608
            rows = db.execute(sql if limit is None else f"{sql} LIMIT {limit + 1:d}", values).fetchall()
        size = len(rows) if limit is None else limit
        return Page([bytes(row[0]) for row in rows[:size]], len(rows) > size)

    def entry(self, conversation: str, item: str) -> bytes | None:
        """See records.Records."""
        with self._store.reading() as db:
            return bytes_of(
                db.execute("SELECT body FROM items WHERE conversation = ? AND id = ?", (conversation, item))
            )

    def remove(self, conversation: str, item: str) -> bool:
        """See records.Records."""
        with self._store.writing() as db:
            sql = "DELETE FROM items WHERE conversation = ? AND id = ? RETURNING id"
            return bool(db.execute(sql, (conversation, item)).fetchall())

    def _check_room(self) -> None:
        with self._store.reading() as db:
            kept = total(db)
        if kept >= self.limits.bytes:
            message = (
                f"{kept} bytes of responses and conversations are kept and server.state.size allows {self.limits.bytes}; "
                "delete conversations, or build with a larger size"
            )
            raise ApiError(507, message, type="server_error", code="state_full")


def conversation_gone(conversation: str) -> ApiError:
    """A 404 in OpenAI's words."""
    message = f"conversation {conversation[:100]!r} does not exist"
    return ApiError(404, message, param="conversation", code="conversation_not_found")


def known(store: Store, db: Statements, conversation: str) -> bool:
    """Whether there is such a conversation; it stays so until the transaction ends."""
    sql = f"SELECT id FROM conversations WHERE id = ?{store.locking}"  # noqa: S608
    return db.execute(sql, (conversation,)).fetchone() is not None


def append(db: Statements, conversation: str, items: Sequence[Entry]) -> None:
    """Add items; an id that is there stays what it is."""
    sql = "INSERT INTO items(conversation, id, body, size) VALUES (?, ?, ?, ?) ON CONFLICT(conversation, id) DO NOTHING"
    for each in items:
        db.execute(sql, (conversation, each.id, each.body, len(each.body)))


def total(db: Statements) -> int:
    """Bytes of all that is kept."""
    sql = "SELECT (SELECT coalesce(sum(size), 0) FROM responses) + (SELECT coalesce(sum(size), 0) FROM items)"
    return int(db.execute(sql).fetchone()[0])


def bytes_of(rows: Rows) -> bytes | None:
    """The one value of the next row."""
    row = rows.fetchone()
    return None if row is None else bytes(row[0])


def place_of(row: Any, after: str, what: str) -> int:
    """Where the list goes on after the row of ``after``; ApiError 400 when there is no such row."""
    if row is None:
        raise ApiError(400, f"after: no {what} {after[:100]!r}", param="after", code="invalid_value")
    return int(row[0])
