"""Runs of workflows in a SQLite file of the state folder: what each was given, which steps it has done, how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from lsbuild_runtime.database import Database, Schema
from lsbuild_runtime.http import ApiError, Cancelled
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.workflows.journal import Answer, Entry, Outcome

SCHEMA = Schema(
    "the workflow runs",
    """
    CREATE TABLE runs(
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL, status TEXT NOT NULL,
        ended_at INTEGER, facts TEXT NOT NULL
    ) STRICT;
    CREATE INDEX runs_by_workflow ON runs(workflow, number);
    CREATE INDEX runs_by_status ON runs(status, number);
    CREATE TABLE steps(
        number INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, path TEXT NOT NULL, facts TEXT NOT NULL, UNIQUE(run, path)
    ) STRICT;
    CREATE TABLE answers(run TEXT NOT NULL, path TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY(run, path)) STRICT;
    """,
)
Status = Literal["queued", "in_progress", "waiting", "completed", "failed", "cancelled"]
OVER: tuple[Status, ...] = ("completed", "failed", "cancelled")


class Fault(Struct, frozen=True):
    """Why a run failed, and at which step."""

    code: str
    message: str
    step: str = ""


class Question(Struct, frozen=True):
    """What a run waits for: the path of the step, and what a person is asked."""

    step: str
    text: str


class Run(Struct, frozen=True):
    """One run. ``version`` is that of the workflow it began with; ``tries`` how often a server began to work at it."""

    id: str
    workflow: str
    version: str
    status: Status
    created_at: int
    input: Mapping[str, Any]
    metadata: Mapping[str, str] = {}
    ended_at: int | None = None
    output: Any = None
    error: Fault | None = None
    waiting: Question | None = None
    tries: int = 0


def new_run(workflow: str, version: str, given: Mapping[str, Any], metadata: Mapping[str, str], now: int) -> Run:
    """A run that has not begun."""
    return Run(new_id("wfrun_"), workflow, version, "queued", now, given, metadata)


class Runs:
    """All runs of a server. Each call is one transaction, on the disk when it returns. Safe from several threads."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._database = Database(path, SCHEMA)
        self._clock = clock

    def add(self, run: Run) -> None:
        """Keep a new run."""
        with self._database.writing() as db:
            row = (run.id, run.workflow, run.status, run.ended_at, _json(run))
            db.execute("INSERT INTO runs(id, workflow, status, ended_at, facts) VALUES (?, ?, ?, ?, ?)", row)

    def get(self, workflow: str, run_id: str) -> Run:
        """The run; ApiError 404 when there is none."""
        with self._database.reading() as db:
            row = db.execute("SELECT facts FROM runs WHERE id = ? AND workflow = ?", (run_id, workflow)).fetchone()
        if row is None:
            raise ApiError(404, f"the workflow {workflow!r} has no run {run_id[:100]!r}", code="run_not_found")
        return _run(row)

    def listing(self, workflow: str, status: str | None, limit: int, order: str, after: str | None) -> list[Run]:
        """Runs of a workflow, newest first or (``asc``) oldest first, behind the run ``after``; ApiError 404 without that."""
        if after is not None:
            self.get(workflow, after)
        with self._database.reading() as db:
            rows = db.execute(_OLDEST if order == "asc" else _NEWEST, (workflow, status, after, limit)).fetchall()
        return [_run(row) for row in rows]

    def steps(self, run_id: str) -> list[Entry]:
        """The steps that a run has done, in the order in which they ended."""
        with self._database.reading() as db:
            rows = db.execute("SELECT facts FROM steps WHERE run = ? ORDER BY number", (run_id,)).fetchall()
        return [msgspec.json.decode(str(row[0]), type=Entry) for row in rows]

    def take(self, run_id: str | None = None) -> Run | None:
        """Begin with a run that is queued: that one, or the oldest; None when there is none."""
        sql = "SELECT facts FROM runs WHERE status = 'queued' AND id = coalesce(?, id) ORDER BY number LIMIT 1"
        with self._database.writing() as db:
            row = db.execute(sql, (run_id,)).fetchone()
            if row is None:
                return None
            run = _run(row)
            begun = msgspec.structs.replace(run, status="in_progress", tries=run.tries + 1)
            _change(db, begun)
        return begun

    def left(self) -> None:
        """What another process had begun and left is queued again."""
        with self._database.writing() as db:
            for row in db.execute("SELECT facts FROM runs WHERE status = 'in_progress'").fetchall():
                _change(db, msgspec.structs.replace(_run(row), status="queued"))

    def put_back(self, run: Run) -> None:
        """A run that was begun and is not over is queued again; that was no try."""
        self._end(run, status="queued", tries=run.tries - 1)

    def complete(self, run: Run, output: Any) -> None:
        """The run has its output."""
        self._end(run, status="completed", output=output, ended_at=self._now())

    def fail(self, run: Run, fault: Fault) -> None:
        """The run has failed for good."""
        self._end(run, status="failed", error=fault, ended_at=self._now())

    def wait(self, run: Run, question: Question) -> None:
        """The run waits for a person."""
        self._end(run, status="waiting", waiting=question, tries=0)

    def cancel(self, workflow: str, run_id: str) -> Run:
        """End a run; one that is over stays what it is."""
        run = self.get(workflow, run_id)
        with self._database.writing() as db:
            run = _current(db, run)
            if run.status in OVER:
                return run
            ended = msgspec.structs.replace(run, status="cancelled", ended_at=self._now(), waiting=None)
            _change(db, ended)
        return ended

    def answer(self, workflow: str, run_id: str, step: str | None, answer: Answer) -> Run:
        """What a person says to a waiting run, which is queued again; ApiError 409 when it waits for nothing (else)."""
        run = self.get(workflow, run_id)
        with self._database.writing() as db:
            run = _current(db, run)
            if run.status != "waiting" or run.waiting is None or step not in (None, run.waiting.step):
                waits = f"waits at the step {run.waiting.step!r}" if run.waiting is not None else f"is {run.status}"
                raise ApiError(409, f"the run {waits}; nothing is asked", param="step", code="not_waiting")
            db.execute("INSERT INTO answers VALUES (?, ?, ?)", (run.id, run.waiting.step, _json(answer)))
            queued = msgspec.structs.replace(run, status="queued", waiting=None)
            _change(db, queued)
        return queued

    def delete(self, workflow: str, run_id: str) -> None:
        """Forget a run that is over; ApiError 409 for one that is not."""
        run = self.get(workflow, run_id)
        if run.status not in OVER:
            raise ApiError(409, f"the run is {run.status}; cancel it first", code="run_not_over")
        with self._database.writing() as db:
            _forget(db, [run.id])

    def expire(self, workflow: str, seconds: float) -> None:
        """Forget what ended so long ago."""
        sql = "SELECT id FROM runs WHERE workflow = ? AND ended_at <= ?"
        with self._database.writing() as db:
            _forget(db, [str(row[0]) for row in db.execute(sql, (workflow, int(self._clock() - seconds))).fetchall()])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # As journal.Journal for one run

    def put_step(self, run_id: str, entry: Entry) -> None:
        """Keep a step that ended; Cancelled when the run is over, or was given to somebody else."""
        with self._database.writing() as db:
            row = db.execute("SELECT status FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row is None or row[0] != "in_progress":
                raise Cancelled
            db.execute("INSERT INTO steps(run, path, facts) VALUES (?, ?, ?)", (run_id, entry.path, _json(entry)))

    def answered(self, run_id: str) -> dict[str, Answer]:
        """What persons have said, by step."""
        with self._database.reading() as db:
            rows = db.execute("SELECT path, facts FROM answers WHERE run = ?", (run_id,)).fetchall()
        return {str(path): msgspec.json.decode(str(facts), type=Answer) for path, facts in rows}

    def _end(self, run: Run, **changes: Any) -> None:
        """Change a run that is being worked at; one that was cancelled meanwhile stays so."""
        with self._database.writing() as db:
            current = _current(db, run)
            if current.status == "in_progress":
                _change(db, msgspec.structs.replace(current, **changes))

    def _now(self) -> int:
        return int(self._clock())


class Kept:
    """Implements journal.Journal for one run of ``runs``, as it stood when it was begun."""

    def __init__(self, runs: Runs, run: Run) -> None:
        self._runs = runs
        self._run = run
        self._outcomes = {entry.path: entry.outcome for entry in runs.steps(run.id)}
        self._answers = runs.answered(run.id)

    def outcome(self, path: str) -> Outcome | None:
        """See Journal."""
        return self._outcomes.get(path)

    def put(self, entry: Entry) -> None:
        """See Journal."""
        self._runs.put_step(self._run.id, entry)

    def answer(self, path: str) -> Answer | None:
        """See Journal."""
        return self._answers.get(path)


_CHOSEN = """
SELECT facts FROM runs WHERE workflow = ?1 AND (?2 IS NULL OR status = ?2)
AND (?3 IS NULL OR number {} (SELECT number FROM runs WHERE id = ?3)) ORDER BY number {} LIMIT ?4
"""
_NEWEST, _OLDEST = _CHOSEN.format("<", "DESC"), _CHOSEN.format(">", "ASC")


def _run(row: Any) -> Run:
    return msgspec.json.decode(row[0], type=Run)


def _current(db: Any, run: Run) -> Run:
    row = db.execute("SELECT facts FROM runs WHERE id = ?", (run.id,)).fetchone()
    return _run(row) if row is not None else msgspec.structs.replace(run, status="cancelled")


def _change(db: Any, run: Run) -> None:
    db.execute(
        "UPDATE runs SET status = ?, ended_at = ?, facts = ? WHERE id = ?",
        (run.status, run.ended_at, _json(run), run.id),
    )


def _forget(db: Any, ids: list[str]) -> None:
    for run_id in ids:
        for table, column in (("runs", "id"), ("steps", "run"), ("answers", "run")):
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (run_id,))  # noqa: S608 - names of this module


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
