"""Which file is to be in which store, and how far that is: a queue that outlives the process; it reads no document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.ports import Attribute

if TYPE_CHECKING:
    from apsw import Connection

    from lsbuild_runtime.database import Database
    from lsbuild_runtime.uploads.files import Files

Status = Literal["in_progress", "completed", "failed", "cancelled", "deleted"]
"""``deleted`` is seen by the worker only: what it may have stored meanwhile has to go."""

_COLUMNS = "seq, store, file, status, todo, tries, created_at, batch, attributes, tokens, overlap, code, message"
_SELECT = f"SELECT {_COLUMNS} FROM attached"  # noqa: S608


class Chunking(Struct, frozen=True):
    """Tokens of a passage at most, and how many of them two neighbours share at most."""

    tokens: int
    overlap: int


class Wish(Struct, frozen=True):
    """A file to be put into a store."""

    file_id: str
    attributes: Mapping[str, Attribute]
    chunking: Chunking


class Attached(Struct, frozen=True):
    """One file of one store. ``ticket`` names this attachment: attaching the file again gives another one.

    ``todo`` says that the worker has to look at it, and may be at it just now; ``tries`` how often it began to read it.
    """

    ticket: int
    store: str
    file_id: str
    status: Status
    todo: bool
    tries: int
    created_at: int
    batch: str | None
    attributes: dict[str, Attribute]
    chunking: Chunking
    code: str
    message: str


class Batch(Struct, frozen=True):
    """Files that were attached by one request."""

    id: str
    store: str
    created_at: int
    cancelled: bool


class Attachments:
    """The table of attachments. Every method is one transaction."""

    def __init__(self, database: Database, files: Files, clock: Callable[[], float]) -> None:
        self._database = database
        self._files = files
        self._clock = clock

    def add(self, store: str, wishes: Sequence[Wish]) -> list[Attached]:
        """Queue files, in place of what the store has of them; ApiError 404 for an unknown file, and none is queued."""
        with self._database.writing() as db:
            return self._add(db, store, wishes, None)

    def add_batch(self, store: str, wishes: Sequence[Wish]) -> Batch:
        """As ``add``, under the id of a batch."""
        batch = Batch(new_id("vsfb_"), store, int(self._clock()), cancelled=False)
        with self._database.writing() as db:
            db.execute("INSERT INTO batches VALUES (?, ?, ?, 0)", (batch.id, store, batch.created_at))
            self._add(db, store, wishes, batch.id)
        return batch

    def _add(self, db: Connection, store: str, wishes: Sequence[Wish], batch: str | None) -> list[Attached]:
        now = int(self._clock())
        added = []
        for wish in wishes:
            self._files.known(db, wish.file_id)
            db.execute("DELETE FROM attached WHERE store = ? AND file = ?", (store, wish.file_id))
            chunking, attributes = wish.chunking, encoded(wish.attributes)
            values = (store, wish.file_id, now, batch, attributes, chunking.tokens, chunking.overlap)
            db.execute(
                "INSERT INTO attached(store, file, status, todo, tries, created_at, batch, attributes, tokens, overlap, "
                "code, message) VALUES (?, ?, 'in_progress', 1, 0, ?, ?, ?, ?, ?, '', '')",
                values,
            )
            row = db.execute(f"{_SELECT} WHERE seq = ?", (db.last_insert_rowid(),)).fetchone()
            added.append(_attached(row))
        return added

    def get(self, store: str, file_id: str) -> Attached | None:
        """One attachment that is not deleted."""
        found = self._find("store = ? AND file = ? AND status != 'deleted'", store, file_id)
        return found[0] if found else None

    def of_store(self, store: str) -> list[Attached]:
        """All of a store that are not deleted."""
        return self._find("store = ? AND status != 'deleted'", store)

    def of_batch(self, batch: Batch) -> list[Attached]:
        """All of a batch that are not deleted, and not attached again by another request."""
        return self._find("batch = ? AND status != 'deleted'", batch.id)

    def batch(self, store: str, batch_id: str) -> Batch:
        """A store's batch; ApiError 404 when there is none."""
        with self._database.reading() as db:
            row: Any = db.execute("SELECT * FROM batches WHERE id = ? AND store = ?", (batch_id, store)).fetchone()
        if row is None:
            raise ApiError(404, f"no batch {batch_id[:100]!r} in store {store!r}", code="file_batch_not_found")
        return Batch(row[0], row[1], row[2], bool(row[3]))

    def cancel(self, batch: Batch) -> Batch:
        """Give up the files of a batch that are still in progress."""
        with self._database.writing() as db:
            db.execute("UPDATE batches SET cancelled = 1 WHERE id = ?", (batch.id,))
            sql = "UPDATE attached SET status = 'cancelled', todo = 1 WHERE batch = ? AND status = 'in_progress'"
            db.execute(sql, (batch.id,))
        return msgspec.structs.replace(batch, cancelled=True)

    def describe(self, store: str, file_id: str, attributes: Mapping[str, Attribute]) -> bool:
        """Replace the attributes; False when the file is not attached."""
        sql = "UPDATE attached SET attributes = ? WHERE store = ? AND file = ? AND status != 'deleted'"
        return self._change(sql, encoded(attributes), store, file_id)

    def detach(self, store: str, file_id: str) -> list[Attached]:
        """Mark the file as deleted from the store; returns what it was, an empty list when it was not attached."""
        with self._database.writing() as db:
            return _give_up(db, "store = ? AND file = ? AND status != 'deleted'", store, file_id)

    def forget_file(self, file_id: str) -> list[Attached] | None:
        """Delete an upload, and mark it as deleted from every store; returns what it was there, None without upload."""
        with self._database.writing() as db:
            given_up = _give_up(db, "file = ? AND status != 'deleted'", file_id)
            db.execute("DELETE FROM files WHERE id = ?", (file_id,))
            return given_up if db.changes() else None

    def forget_store(self, store: str) -> None:
        """Forget what was attached to a store that is gone."""
        with self._database.writing() as db:
            db.execute("DELETE FROM attached WHERE store = ?", (store,))
            db.execute("DELETE FROM batches WHERE store = ?", (store,))

    def next(self, later: Iterable[int]) -> Attached | None:
        """The oldest attachment that something has to be done for, but for the tickets in ``later``."""
        skipped = msgspec.json.encode(list(later)).decode()
        found = self._find("todo = 1 AND seq NOT IN (SELECT value FROM json_each(?))", skipped, limit=1)
        return found[0] if found else None

    def begin(self, ticket: int) -> int:
        """Count a try to read the file, before it is made: a file that ends the process must not do so for ever."""
        self._change("UPDATE attached SET tries = tries + 1 WHERE seq = ?", ticket)
        now = self.current(ticket)
        return now.tries if now else 0

    def undo(self, ticket: int) -> None:
        """A try that was given up because the server stops does not count."""
        self._change("UPDATE attached SET tries = tries - 1 WHERE seq = ?", ticket)

    def current(self, ticket: int) -> Attached | None:
        """The attachment as it is now, or None."""
        found = self._find("seq = ?", ticket)
        return found[0] if found else None

    def complete(self, done: Attached) -> bool:
        """Mark as completed what was stored as ``done`` says; False when something else is wanted by now."""
        sql = (
            "UPDATE attached SET status = 'completed', todo = 0 "
            "WHERE seq = ? AND status = 'in_progress' AND attributes = ?"
        )
        return self._change(sql, done.ticket, encoded(done.attributes))

    def fail(self, ticket: int, code: str, message: str) -> None:
        """Mark as failed what is still in progress."""
        sql = "UPDATE attached SET status = 'failed', todo = 0, code = ?, message = ? WHERE seq = ? AND status = ?"
        self._change(sql, code, message, ticket, "in_progress")

    def settle(self, gone: Attached) -> None:
        """The store holds nothing of ``gone``: forget it when it was deleted, keep it as cancelled when it was that."""
        with self._database.writing() as db:
            db.execute("DELETE FROM attached WHERE seq = ? AND status = 'deleted'", (gone.ticket,))
            db.execute("UPDATE attached SET todo = 0 WHERE seq = ? AND status = 'cancelled'", (gone.ticket,))

    def _find(self, where: str, *values: Any, limit: int = -1) -> list[Attached]:
        with self._database.reading() as db:
            rows: Iterable[Any] = db.execute(f"{_SELECT} WHERE {where} ORDER BY seq LIMIT ?", (*values, limit))
            return [_attached(row) for row in rows]

    def _change(self, sql: str, *values: Any) -> bool:
        with self._database.writing() as db:
            db.execute(sql, values)
            return db.changes() > 0


def encoded(attributes: Mapping[str, Attribute]) -> str:
    """Attributes as JSON text, the same for the same attributes."""
    return msgspec.json.encode(attributes, order="sorted").decode()


def _give_up(db: Connection, where: str, *values: Any) -> list[Attached]:
    rows: list[Any] = db.execute(f"{_SELECT} WHERE {where}", values).fetchall()
    db.execute(f"UPDATE attached SET status = 'deleted', todo = 1 WHERE {where}", values)  # noqa: S608
    return [_attached(row) for row in rows]


def _attached(row: Any) -> Attached:
    ticket, store, file_id, status, todo, tries, created, batch, attributes, tokens, overlap, code, message = row
    return Attached(
        ticket=ticket,
        store=store,
        file_id=file_id,
        status=status,
        todo=bool(todo),
        tries=tries,
        created_at=created,
        batch=batch,
        attributes=msgspec.json.decode(attributes),
        chunking=Chunking(tokens, overlap),
        code=code,
        message=message,
    )
