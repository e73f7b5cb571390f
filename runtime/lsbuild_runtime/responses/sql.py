"""Records over a SQL database: the statements, once for SQLite and PostgreSQL; what differs is the Store's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.responses.records import Conversation, Entry, Kept, Limits, Page, State, Step

TABLES = """
CREATE TABLE responses(
    seq {SERIAL}, id TEXT NOT NULL UNIQUE, created_at {INTEGER} NOT NULL, status TEXT NOT NULL, model TEXT NOT NULL,
    background {INTEGER} NOT NULL, previous TEXT NOT NULL, conversation TEXT NOT NULL, body {BYTES} NOT NULL,
    input {BYTES} NOT NULL, run {BYTES} NOT NULL, size {INTEGER} NOT NULL, owner TEXT NOT NULL, alive_at {INTEGER} NOT NULL,
    tries {INTEGER} NOT NULL
) {STRICT};
CREATE INDEX responses_open ON responses(seq) WHERE status IN ('queued', 'in_progress');
CREATE INDEX responses_busy ON responses(conversation) WHERE status IN ('queued', 'in_progress') AND conversation <> '';
CREATE INDEX responses_age ON responses(created_at, seq, size);
CREATE TABLE steps(response TEXT NOT NULL, number {INTEGER} NOT NULL, body {BYTES} NOT NULL, PRIMARY KEY(response, number))
    {STRICT};
CREATE TABLE events(response TEXT NOT NULL, number {INTEGER} NOT NULL, body {BYTES} NOT NULL, PRIMARY KEY(response, number))
    {STRICT};
CREATE TABLE outputs(id TEXT PRIMARY KEY, response TEXT NOT NULL, body {BYTES} NOT NULL) {STRICT};
CREATE INDEX outputs_response ON outputs(response);
CREATE TABLE conversations(id TEXT PRIMARY KEY, created_at {INTEGER} NOT NULL, metadata {BYTES} NOT NULL) {STRICT};
CREATE TABLE items(
    seq {SERIAL}, conversation TEXT NOT NULL, id TEXT NOT NULL, body {BYTES} NOT NULL, size {INTEGER} NOT NULL,
    UNIQUE(conversation, id)
) {STRICT};
"""
"""Formatted by who makes the tables; the words in braces are those in which databases differ."""

DAY = 86_400
EXPIRE_EVERY = 100
"""Responses that begin between two looks at how much there is."""
_KEPT = "id, created_at, status, model, background, previous, conversation, body, input, run, tries"
_OPEN = "status IN ('queued', 'in_progress')"
_STEP = msgspec.json.Decoder(Step)


class Rows(Protocol):
    """What a statement gives."""

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...


class Statements(Protocol):
    """One transaction. Parameters are marked by ``?``."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """Run one statement."""
        ...


class Store(Protocol):
    """A database with the tables in it, and what it knows of the servers that work with it.

    ``now`` is the SQL for the seconds since 1970 as the database has them, ``locking`` what makes a SELECT keep its rows
    from other writers until the transaction ends. With ``leases`` an owner is alive while it is heard of.
    """

    now: str
    locking: str
    leases: bool

    def reading(self) -> AbstractContextManager[Statements]:
        """A transaction that changes nothing."""
        ...

    def writing(self) -> AbstractContextManager[Statements]:
        """A transaction that is kept whole or not at all."""
        ...

    def gone(self, heard: Mapping[str, int], now: int) -> Iterable[str]:
        """Those of the owners that work no more; ``heard`` says when each was last heard of."""
        ...

    def hold(self, owner: str) -> None:
        """Say that this process is ``owner`` until it ends."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class SqlRecords:
    """Implements records.Records. ``clock`` gives the seconds since 1970."""

    def __init__(self, store: Store, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.leases = store.leases
        self._store = store
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
            if conversation and status in ("completed", "incomplete") and self._known(db, conversation):
                _append(db, conversation, [*inputs, *outputs])
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
                values.append(_seq(row, after, "response"))
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
            return _bytes(db.execute("SELECT body FROM outputs WHERE id = ?", (item,)))

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
            over = _total(db) - self.limits.bytes
            sql = f"SELECT id, size FROM responses WHERE NOT {_OPEN} ORDER BY created_at, seq"  # noqa: S608
            for response, size in db.execute(sql).fetchall() if over > 0 else ():
                if over <= 0:
                    break
                _delete(db, response)
                over -= size

    # Conversations

    def create(self, conversation: Conversation, items: Sequence[Entry]) -> None:
        """See records.Records."""
        self._check_room()
        with self._store.writing() as db:
            values = (conversation.id, conversation.created_at, msgspec.json.encode(conversation.metadata))
            db.execute("INSERT INTO conversations VALUES (?, ?, ?)", values)
            _append(db, conversation.id, items)

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
            if not self._known(db, conversation):
                raise conversation_gone(conversation)
            _append(db, conversation, items)

    def items(self, conversation: str, *, limit: int | None, newest_first: bool, after: str | None) -> Page:
        """See records.Records."""
        order, than = ("DESC", "<") if newest_first else ("ASC", ">")
        where, values = "conversation = ?", list[Any]((conversation,))
        with self._store.reading() as db:
            if after is not None:
                row = db.execute(
                    "SELECT seq FROM items WHERE conversation = ? AND id = ?", (conversation, after)
                ).fetchone()
                where, values = f"{where} AND seq {than} ?", [conversation, _seq(row, after, "item")]
            sql = f"SELECT body FROM items WHERE {where} ORDER BY seq {order}"  # noqa: S608
            rows = db.execute(sql if limit is None else f"{sql} LIMIT {limit + 1:d}", values).fetchall()
        size = len(rows) if limit is None else limit
        return Page([bytes(row[0]) for row in rows[:size]], len(rows) > size)

    def entry(self, conversation: str, item: str) -> bytes | None:
        """See records.Records."""
        with self._store.reading() as db:
            return _bytes(db.execute("SELECT body FROM items WHERE conversation = ? AND id = ?", (conversation, item)))

    def remove(self, conversation: str, item: str) -> bool:
        """See records.Records."""
        with self._store.writing() as db:
            sql = "DELETE FROM items WHERE conversation = ? AND id = ? RETURNING id"
            return bool(db.execute(sql, (conversation, item)).fetchall())

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

    def _known(self, db: Statements, conversation: str) -> bool:
        sql = f"SELECT id FROM conversations WHERE id = ?{self._store.locking}"  # noqa: S608
        return db.execute(sql, (conversation,)).fetchone() is not None

    def _check_free(self, db: Statements, conversation: str) -> None:
        if not self._known(db, conversation):
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

    def _check_room(self) -> None:
        with self._store.reading() as db:
            total = _total(db)
        if total >= self.limits.bytes:
            message = (
                f"{total} bytes of responses and conversations are kept and server.state.size allows {self.limits.bytes}; "
                "delete conversations, or build with a larger size"
            )
            raise ApiError(507, message, type="server_error", code="state_full")


class _Numbered(msgspec.Struct):
    sequence_number: int


def conversation_gone(conversation: str) -> ApiError:
    """A 404 in OpenAI's words."""
    message = f"conversation {conversation[:100]!r} does not exist"
    return ApiError(404, message, param="conversation", code="conversation_not_found")


def _keep_events(db: Statements, response: str, events: Sequence[bytes], following: int) -> None:
    """``following`` is the number of the event after the last of them."""
    for number, event in enumerate(events, following - len(events)):
        db.execute("INSERT INTO events VALUES (?, ?, ?)", (response, number, event))


def _append(db: Statements, conversation: str, items: Sequence[Entry]) -> None:
    sql = "INSERT INTO items(conversation, id, body, size) VALUES (?, ?, ?, ?) ON CONFLICT(conversation, id) DO NOTHING"
    for each in items:
        db.execute(sql, (conversation, each.id, each.body, len(each.body)))


def _delete(db: Statements, response: str) -> bool:
    for table in ("steps", "events", "outputs"):
        db.execute(f"DELETE FROM {table} WHERE response = ?", (response,))  # noqa: S608
    return bool(db.execute("DELETE FROM responses WHERE id = ? RETURNING id", (response,)).fetchall())


def _total(db: Statements) -> int:
    sql = "SELECT (SELECT coalesce(sum(size), 0) FROM responses) + (SELECT coalesce(sum(size), 0) FROM items)"
    return int(db.execute(sql).fetchone()[0])


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


def _bytes(rows: Rows) -> bytes | None:
    row = rows.fetchone()
    return None if row is None else bytes(row[0])


def _seq(row: Any, after: str, what: str) -> int:
    if row is None:
        raise ApiError(400, f"after: no {what} {after[:100]!r}", param="after", code="invalid_value")
    return int(row[0])
