"""The tables of responses and conversations, and what a database has to be for them; the statements are elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

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
