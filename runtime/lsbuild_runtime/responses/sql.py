"""Records over a SQL database: the statements, once for SQLite and PostgreSQL; what differs is the Store's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.responses.records import Entry, Kept, Limits, Page, State, Step
from lsbuild_runtime.responses.sql_conversations import (
    SqlConversations,
    append,
    bytes_of,
    conversation_gone,
    known,
    place_of,
    total,
)
from lsbuild_runtime.responses.tables import Rows, Statements, Store

DAY = 86_400
EXPIRE_EVERY = 100
"""Responses that begin between two looks at how much there is."""
_KEPT = "id, created_at, status, model, background, previous, conversation, body, input, run, tries"
_OPEN = "status IN ('queued', 'in_progress')"
_STEP = msgspec.json.Decoder(Step)


class SqlRecords(SqlConversations):
    """Implements records.Records. ``clock`` gives the seconds since 1970."""

    def __init__(self, store: Store, limits: Limits, clock: Callable[[], float]) -> None:
        super().__init__(store, limits)
        self.leases = store.leases
        self._clock = clock
        self._begun = 0

    # Responses

    def begin(self, kept: Kept, owner: str, events: Sequence[bytes] = ()) -> None:
        """See records.Records."""
        self._begun += 1
        if self._begun % EXPIRE_EVERY == 1:
            self.expire()
            self._check_room()
        with self._store.writing() as db:
            if kept.conversation:
                self._check_free(db, kept.conversation)
            if kept.status == "queued":
                self._check_queue(db)
            values = (*_values(kept), len(kept.body) + len(kept.input), owner)
            marks = ", ".join("?" * len(values))
            sql = f"INSERT INTO responses({_KEPT}, size, owner, alive_at) VALUES ({marks}, {self._store.now})"  # noqa: S608
            db.execute(sql, values)
            _keep_events(db, kept.id, events, len(events))

    def step(self, response: str, owner: str, step: Step, events: Sequence[bytes] = ()) -> bool:
        """See records.Records."""
        with self._store.writing() as db:
            if not self._owned(db, response, owner):
                return False
            number = db.execute("SELECT count(*) FROM steps WHERE response = ?", (response,)).fetchone()[0]
            db.execute("INSERT INTO steps VALUES (?, ?, ?)", (response, number, msgspec.json.encode(step)))
            _keep_events(db, response, events, step.sequence)
            db.execute(f"UPDATE responses SET alive_at = {self._store.now} WHERE id = ?", (response,))  # noqa: S608
        return True

    def end(
        self, response: str, owner: str, status: State, body: bytes, outputs: Sequence[Entry],
        events: Sequence[bytes] = (), inputs: Sequence[Entry] = (),
    ) -> bool:  # fmt: skip
        """See records.Records."""
        with self._store.writing() as db:
            if not (row := self._owned(db, response, owner)):
                return False
            size = len(body) + sum(len(each.body) for each in outputs) + sum(map(len, events))
            db.execute(
                "UPDATE responses SET status = ?, body = ?, run = ?, size = size + ?, owner = '' WHERE id = ?",
                (status, body, b"", size, response),
            )
            for each in outputs:
                db.execute("INSERT INTO outputs VALUES (?, ?, ?)", (each.id, response, each.body))
            if events:
                last = msgspec.json.decode(events[-1], type=_Numbered).sequence_number
                _keep_events(db, response, events, last + 1)
            db.execute("DELETE FROM steps WHERE response = ?", (response,))
            conversation = row[0]
            if conversation and status in ("completed", "incomplete") and known(self._store, db, conversation):
                append(db, conversation, [*inputs, *outputs])
        return True

    def get(self, response: str) -> Kept | None:
        """See records.Records."""
        with self._store.reading() as db:
            return _one(db.execute(f"SELECT {_KEPT} FROM responses WHERE id = ?", (response,)))  # noqa: S608

    def chain(self, response: str) -> list[Kept]:
        """See records.Records."""
        found: list[Kept] = []
        with self._store.reading() as db:
            while response:
                kept = _one(db.execute(f"SELECT {_KEPT} FROM responses WHERE id = ?", (response,)))  # noqa: S608
                if kept is None:
                    return []
                found.append(kept)
                response = kept.previous
        return found[::-1]

    def page(self, *, limit: int, newest_first: bool, after: str | None, model: str | None) -> Page:
        """See records.Records."""
        order, than = ("DESC", "<") if newest_first else ("ASC", ">")
        where, values = ["1 = 1"], list[Any]()
        with self._store.reading() as db:
            if after is not None:
                row = db.execute("SELECT seq FROM responses WHERE id = ?", (after,)).fetchone()
                where.append(f"seq {than} ?")
                values.append(place_of(row, after, "response"))
            if model is not None:
                where.append("model = ?")
                values.append(model)
            sql = f"SELECT {_KEPT} FROM responses WHERE {' AND '.join(where)} ORDER BY seq {order} LIMIT ?"  # noqa: S608
            rows = db.execute(sql, (*values, limit + 1)).fetchall()
        return Page([_kept(row) for row in rows[:limit]], len(rows) > limit)

    def cancel(self, response: str, body: bytes) -> bool:
        """See records.Records."""
        with self._store.writing() as db:
            change = "status = 'cancelled', body = ?, run = ?, owner = ''"
            sql = f"UPDATE responses SET {change} WHERE id = ? AND {_OPEN} RETURNING id"  # noqa: S608
            done = db.execute(sql, (body, b"", response)).fetchall()
            if done:
                db.execute("DELETE FROM steps WHERE response = ?", (response,))
        return bool(done)

    def delete(self, response: str) -> bool:
        """See records.Records."""
        with self._store.writing() as db:
            return _delete(db, response)

    def item(self, item: str) -> bytes | None:
        """See records.Records."""
        with self._store.reading() as db:
            return bytes_of(db.execute("SELECT body FROM outputs WHERE id = ?", (item,)))

    def steps(self, response: str) -> list[Step]:
        """See records.Records."""
        with self._store.reading() as db:
            rows = db.execute("SELECT body FROM steps WHERE response = ? ORDER BY number", (response,)).fetchall()
        return [_STEP.decode(bytes(row[0])) for row in rows]

    def events(self, response: str, after: int) -> list[tuple[int, bytes]]:
        """See records.Records."""
        sql = "SELECT number, body FROM events WHERE response = ? AND number > ? ORDER BY number"
        with self._store.reading() as db:
            return [(int(row[0]), bytes(row[1])) for row in db.execute(sql, (response, after)).fetchall()]

    # Who works at what

    def enter(self, owner: str) -> None:
        """See records.Records."""
        self._store.hold(owner)

    def leave(self, owner: str) -> None:
        """See records.Records."""
        with self._store.writing() as db:
            db.execute("UPDATE responses SET owner = '', alive_at = 0 WHERE owner = ?", (owner,))

    def release(self, response: str, owner: str) -> None:
        """See records.Records."""
        with self._store.writing() as db:
            db.execute("UPDATE responses SET owner = '' WHERE id = ? AND owner = ?", (response, owner))

    def take(self, owner: str) -> Kept | None:
        """See records.Records."""
        change = f"status = 'in_progress', owner = ?, alive_at = {self._store.now}, tries = tries + 1"
        with self._store.writing() as db:
            for response, before in self._takeable(db):
                kept = _one(db.execute(f"SELECT {_KEPT} FROM responses WHERE id = ?", (response,)))  # noqa: S608
                sql = f"UPDATE responses SET {change} WHERE id = ? AND owner = ? AND {_OPEN} RETURNING id"  # noqa: S608
                if db.execute(sql, (owner, response, before)).fetchall():  # nobody was faster
                    return kept
        return None

    def renew(self, owner: str) -> None:
        """See records.Records."""
        with self._store.writing() as db:
            db.execute(f"UPDATE responses SET alive_at = {self._store.now} WHERE owner = ?", (owner,))  # noqa: S608

    def waiting(self) -> bool:
        """See records.Records."""
        with self._store.reading() as db:
            return bool(self._takeable(db))

    def expire(self) -> None:
        """See records.Records."""
        with self._store.writing() as db:
            old = self._now() - self.limits.days * DAY
            sql = f"SELECT id FROM responses WHERE created_at < ? AND NOT {_OPEN}"  # noqa: S608
            for row in db.execute(sql, (old,)).fetchall():
                _delete(db, row[0])
            over = total(db) - self.limits.bytes
            sql = f"SELECT id, size FROM responses WHERE NOT {_OPEN} ORDER BY created_at, seq"  # noqa: S608
            for response, size in db.execute(sql).fetchall() if over > 0 else ():
                if over <= 0:
                    break
                _delete(db, response)
                over -= size

    def close(self) -> None:
        """See records.Records."""
        self._store.close()

    # Inside a transaction

    def _now(self) -> int:
        return int(self._clock())

    def _owned(self, db: Statements, response: str, owner: str) -> Any:
        sql = "SELECT conversation FROM responses WHERE id = ? AND owner = ? AND status = 'in_progress'"
        return db.execute(sql + self._store.locking, (response, owner)).fetchone()

    def _takeable(self, db: Statements) -> list[tuple[str, str]]:
        """The ids of responses that nobody works at, the oldest first, each with the owner that it had."""
        sql = f"SELECT id, status, owner, alive_at FROM responses WHERE {_OPEN} ORDER BY seq"  # noqa: S608
        rows = db.execute(sql).fetchall()
        heard: dict[str, int] = {}
        for _, status, owner, alive_at in rows:
            if status == "in_progress" and owner:
                heard[owner] = max(heard.get(owner, 0), int(alive_at))
        now = int(db.execute(f"SELECT {self._store.now}").fetchone()[0])
        gone = {"", *self._store.gone(heard, now)}  # nobody's are those that are queued, and those that were left
        return [(row[0], row[2]) for row in rows if row[2] in gone]

    def _check_free(self, db: Statements, conversation: str) -> None:
        if not known(self._store, db, conversation):
            raise conversation_gone(conversation)
        sql = f"SELECT id FROM responses WHERE conversation = ? AND {_OPEN}"  # noqa: S608
        if (row := db.execute(sql, (conversation,)).fetchone()) is not None:
            message = (
                f"conversation: the response {row[0]} of this conversation has not ended; wait for it or cancel it"
            )
            raise ApiError(409, message, param="conversation", code="conversation_locked")

    def _check_queue(self, db: Statements) -> None:
        waiting = db.execute("SELECT count(*) FROM responses WHERE status = 'queued'").fetchone()[0]
        if waiting >= self.limits.queue:
            message = f"{waiting} responses wait in the background already; try again later"
            raise ApiError(429, message, type="rate_limit_error", code="rate_limit_exceeded", retry_after=10)


class _Numbered(msgspec.Struct):
    sequence_number: int


def _keep_events(db: Statements, response: str, events: Sequence[bytes], following: int) -> None:
    """``following`` is the number of the event after the last of them."""
    for number, event in enumerate(events, following - len(events)):
        db.execute("INSERT INTO events VALUES (?, ?, ?)", (response, number, event))


def _delete(db: Statements, response: str) -> bool:
    for table in ("steps", "events", "outputs"):
        db.execute(f"DELETE FROM {table} WHERE response = ?", (response,))  # noqa: S608
    return bool(db.execute("DELETE FROM responses WHERE id = ? RETURNING id", (response,)).fetchall())


def _values(kept: Kept) -> tuple[Any, ...]:
    return (kept.id, kept.created_at, kept.status, kept.model, int(kept.background), kept.previous, kept.conversation,
            kept.body, kept.input, kept.run, kept.tries)  # fmt: skip


def _kept(row: Any) -> Kept:
    return Kept(
        id=row[0], created_at=int(row[1]), status=row[2], model=row[3], background=bool(row[4]), previous=row[5],
        conversation=row[6], body=bytes(row[7]), input=bytes(row[8]), run=bytes(row[9]),
        tries=int(row[10]),
    )  # fmt: skip


def _one(rows: Rows) -> Kept | None:
    row = rows.fetchone()
    return None if row is None else _kept(row)
