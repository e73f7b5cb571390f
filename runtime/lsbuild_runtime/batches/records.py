"""What is kept of batches: their state and each answered line, in one database; it asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from lsbuild_runtime.batches import FILE_NAME
from lsbuild_runtime.batches.lines import Fault
from lsbuild_runtime.database import Database, Schema
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.ports import Usage

if TYPE_CHECKING:
    from apsw import Connection

WINDOW_SECONDS = 86_400
"""The only window there is: 24 hours."""
UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")

# A line has a row from the moment it is asked: `answer` is NULL until it is answered, and `tries` counts how often it was
# asked, so that one that ends the process is given up. The rows go when the answers are in their files.
_UNFINISHED = "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"
SCHEMA = Schema(
    "the batches",
    f"""
CREATE TABLE batches(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, key TEXT UNIQUE, endpoint TEXT NOT NULL,
    input TEXT NOT NULL, metadata TEXT NOT NULL, keep INTEGER, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    status TEXT NOT NULL, times TEXT NOT NULL, errors TEXT NOT NULL, output TEXT, error TEXT, total INTEGER NOT NULL,
    completed INTEGER NOT NULL, failed INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL,
    cached INTEGER NOT NULL
) STRICT;
CREATE INDEX batches_unfinished ON batches(seq) WHERE {_UNFINISHED};
CREATE TABLE lines(
    batch TEXT NOT NULL, number INTEGER NOT NULL, tries INTEGER NOT NULL, good INTEGER NOT NULL, answer BLOB,
    PRIMARY KEY(batch, number)
) STRICT, WITHOUT ROWID;
""",
)


class Wanted(Struct, frozen=True):
    """A batch to be made. ``keep`` is how many seconds its files stay; None: as the server's own rule says."""

    endpoint: str
    input: str
    metadata: dict[str, str]
    keep: int | None
    key: str | None


class Batch(Struct, frozen=True):
    """One batch. ``times`` are seconds since 1970 by the status that began then."""

    id: str
    endpoint: str
    input: str
    metadata: dict[str, str]
    keep: int | None
    created_at: int
    expires_at: int
    status: str
    times: dict[str, int]
    errors: list[Fault]
    output: str | None
    error: str | None
    total: int
    completed: int
    failed: int
    usage: Usage


class Page(Struct, frozen=True):
    """Some batches, newest first, and whether there are more behind them."""

    batches: list[Batch]
    more: bool


_COLUMNS = """id, endpoint, input, metadata, keep, created_at, expires_at, status, times, errors, output, error, total,
    completed, failed, prompt, completion, cached"""


class Records:
    """Every change is on the disk when its method returns."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.folder = folder
        self._clock = clock
        self._database = Database(folder / FILE_NAME, SCHEMA)

    def add(self, wanted: Wanted) -> Batch:
        """Queue a batch; one that was made with the same key is given again, if it is the same."""
        now = self._now()
        metadata = msgspec.json.encode(wanted.metadata).decode()
        with self._database.writing() as db:
            if wanted.key is not None and (found := _one(db, "key = ?", wanted.key)) is not None:
                if (found.endpoint, found.input, found.metadata) != (wanted.endpoint, wanted.input, wanted.metadata):
                    raise ApiError(
                        400,
                        f"idempotency_key: it was used for another batch, {found.id}",
                        param="idempotency_key",
                        code="invalid_value",
                    )
                return found
            batch_id = new_id("batch_")
            db.execute(
                """INSERT INTO batches(id, key, endpoint, input, metadata, keep, created_at, expires_at, status, times, errors,
                    total, completed, failed, prompt, completion, cached)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'validating', '{}', '[]', 0, 0, 0, 0, 0, 0)""",
                (batch_id, wanted.key, wanted.endpoint, wanted.input, metadata, wanted.keep, now, now + WINDOW_SECONDS),
            )
            return _known(db, batch_id)

    def get(self, batch_id: str) -> Batch:
        """One batch; ApiError 404 when there is none."""
        with self._database.reading() as db:
            return _known(db, batch_id)

    def page(self, limit: int, after: str | None) -> Page:
        """At most ``limit`` batches, newest first, behind the one named ``after``; ApiError 400 when that is unknown."""
        where, values = "TRUE", []
        with self._database.reading() as db:
            if after is not None:
                seq: Any = db.execute("SELECT seq FROM batches WHERE id = ?", (after,)).get
                if seq is None:
                    raise ApiError(400, f"after: no batch {after[:100]!r}", param="after", code="invalid_value")
                where, values = "seq < ?", [seq]
            sql = f"SELECT {_COLUMNS} FROM batches WHERE {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608
            rows: list[Any] = db.execute(sql, (*values, limit + 1)).fetchall()
        return Page([_batch(row) for row in rows[:limit]], len(rows) > limit)

    def next(self) -> Batch | None:
        """The oldest batch that is not finished."""
        with self._database.reading() as db:
            return _one(db, f"{_UNFINISHED} ORDER BY seq LIMIT 1")

    def cancel(self, batch_id: str) -> Batch:
        """Ask the worker to stop; ApiError 400 for a batch that has ended."""
        with self._database.writing() as db:
            batch = _known(db, batch_id)
            if batch.status not in UNFINISHED:
                message = f"a batch with status {batch.status!r} cannot be cancelled"
                raise ApiError(400, message, param="batch_id", code="invalid_value")
            return batch if batch.status == "cancelling" else self._become(db, batch, "cancelling")

    def begin(self, batch: Batch, total: int, unreadable: Iterable[tuple[int, bytes]]) -> Batch:
        """The file was read: count its lines, and keep the answers of those that cannot be asked."""
        with self._database.writing() as db:
            for number, answer in unreadable:
                _keep(db, batch, number, answer, good=False, usage=Usage())
            db.execute("UPDATE batches SET total = ? WHERE id = ?", (total, batch.id))
            now = _known(db, batch.id)
            return self._become(db, now, "in_progress") if now.status == "validating" else now

    def fail(self, batch: Batch, errors: Sequence[Fault]) -> None:
        """The whole file is of no use."""
        with self._database.writing() as db:
            written = msgspec.json.encode(errors).decode()
            db.execute("UPDATE batches SET errors = ? WHERE id = ?", (written, batch.id))
            self._become(db, batch, "failed")

    def answered(self, batch: Batch) -> frozenset[int]:
        """The numbers of the lines that have their answer."""
        with self._database.reading() as db:
            rows: Any = db.execute("SELECT number FROM lines WHERE batch = ? AND answer IS NOT NULL", (batch.id,))
            return frozenset(row[0] for row in rows)

    def ask(self, batch: Batch, number: int) -> int:
        """A line is asked now; returns how often it has been."""
        with self._database.writing() as db:
            sql = """INSERT INTO lines(batch, number, tries, good) VALUES (?, ?, 1, 0)
                ON CONFLICT DO UPDATE SET tries = tries + 1 RETURNING tries"""
            tries: Any = db.execute(sql, (batch.id, number)).get
        return int(tries)

    def give_back(self, batch: Batch, number: int) -> None:
        """The server stops: the line counts as not asked this time."""
        with self._database.writing() as db:
            db.execute("UPDATE lines SET tries = tries - 1 WHERE batch = ? AND number = ?", (batch.id, number))

    def keep(self, batch: Batch, number: int, answer: bytes, *, good: bool, usage: Usage) -> None:
        """A line has its answer, for good."""
        with self._database.writing() as db:
            _keep(db, batch, number, answer, good=good, usage=usage)

    def finalize(self, batch: Batch, given_up: Iterable[tuple[int, bytes]]) -> Batch:
        """No line is asked any more; ``given_up`` are answers of those that were not."""
        with self._database.writing() as db:
            for number, answer in given_up:
                _keep(db, batch, number, answer, good=False, usage=Usage())
            now = _known(db, batch.id)
            return now if now.status == "cancelling" else self._become(db, now, "finalizing")

    def answers(self, batch: Batch, *, good: bool) -> bytes:
        """The answers of one kind, as the lines of a file in the order of the requests."""
        with self._database.reading() as db:
            sql = "SELECT answer FROM lines WHERE batch = ? AND good = ? AND answer IS NOT NULL ORDER BY number"
            return b"".join(row[0] + b"\n" for row in db.execute(sql, (batch.id, good)))

    def end(self, batch: Batch, status: str, output: str | None, error: str | None) -> None:
        """The answers are in their files."""
        with self._database.writing() as db:
            db.execute("UPDATE batches SET output = ?, error = ? WHERE id = ?", (output, error, batch.id))
            db.execute("DELETE FROM lines WHERE batch = ?", (batch.id,))
            self._become(db, batch, status)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _become(self, db: Connection, batch: Batch, status: str) -> Batch:
        times = msgspec.json.encode({**batch.times, status: self._now()}).decode()
        db.execute("UPDATE batches SET status = ?, times = ? WHERE id = ?", (status, times, batch.id))
        return _known(db, batch.id)

    def _now(self) -> int:
        return int(self._clock())


def _keep(db: Connection, batch: Batch, number: int, answer: bytes, *, good: bool, usage: Usage) -> None:
    sql = """INSERT INTO lines(batch, number, tries, good, answer) VALUES (:batch, :number, 0, :good, :answer)
        ON CONFLICT DO UPDATE SET good = :good, answer = :answer WHERE answer IS NULL RETURNING number"""
    values: Mapping[str, Any] = {"batch": batch.id, "number": number, "good": int(good), "answer": answer}
    if db.execute(sql, values).get is None:
        return  # it has its answer
    counted = "completed" if good else "failed"
    db.execute(
        f"""UPDATE batches SET {counted} = {counted} + 1, prompt = prompt + ?, completion = completion + ?, cached = cached + ?
        WHERE id = ?""",  # noqa: S608
        (usage.prompt, usage.completion, usage.cached, batch.id),
    )


def _known(db: Connection, batch_id: str) -> Batch:
    found = _one(db, "id = ?", batch_id)
    if found is None:
        message = f"no batch {batch_id[:100]!r}; GET /v1/batches lists them"
        raise ApiError(404, message, code="batch_not_found")
    return found


def _one(db: Connection, where: str, *values: str) -> Batch | None:
    row: Any = db.execute(f"SELECT {_COLUMNS} FROM batches WHERE {where}", values).fetchone()  # noqa: S608
    return None if row is None else _batch(row)


def _batch(row: Sequence[Any]) -> Batch:
    batch_id, endpoint, given, metadata, keep, created, expires, status, times, errors, output, error, *counts = row
    total, completed, failed, prompt, completion, cached = counts
    return Batch(
        id=batch_id,
        endpoint=endpoint,
        input=given,
        metadata=msgspec.json.decode(metadata),
        keep=keep,
        created_at=created,
        expires_at=expires,
        status=status,
        times=msgspec.json.decode(times),
        errors=msgspec.json.decode(errors, type=list[Fault]),
        output=output,
        error=error,
        total=total,
        completed=completed,
        failed=failed,
        usage=Usage(prompt, completion, cached),
    )
