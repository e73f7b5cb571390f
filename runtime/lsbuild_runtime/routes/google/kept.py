"""Interactions that a later one may go on from, in the state folder: each with all that was said, and its answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from lsbuild_runtime.database import Database, Schema
from lsbuild_runtime.http import ApiError

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

KEEP_SECONDS = 30 * 86_400
"""How long an interaction is kept."""
_FOLDER, _DATABASE = "interactions", "interactions.sqlite"
SCHEMA = Schema(
    "the interactions",
    """
CREATE TABLE interactions(id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, messages BLOB NOT NULL, answer BLOB NOT NULL)
    STRICT;
CREATE INDEX interactions_age ON interactions(created_at);
""",
)


class Interactions:
    """Safe for use from several threads. ApiError 503 where the server keeps no state."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._opening = threading.Lock()
        self._opened: Database | None = None

    def ready(self) -> None:
        """ApiError 503 when nothing can be kept."""
        with self._database().reading():
            pass

    def add(self, interaction_id: str, messages: Sequence[Mapping[str, Any]], answer: bytes) -> None:
        """Keep one, and forget those whose time is over."""
        now = int(self._site.clock())
        with self._database().writing() as db:
            db.execute("DELETE FROM interactions WHERE created_at <= ?", (now - KEEP_SECONDS,))
            values = (interaction_id, now, msgspec.json.encode(messages), answer)
            db.execute("INSERT INTO interactions(id, created_at, messages, answer) VALUES (?, ?, ?, ?)", values)

    def messages(self, interaction_id: str) -> bytes:
        """All that was said up to its end, its answer included, as OpenAI's messages in JSON."""
        return self._column("messages", interaction_id)

    def answer(self, interaction_id: str) -> bytes:
        """The interaction as it was answered, in JSON."""
        return self._column("answer", interaction_id)

    def delete(self, interaction_id: str) -> None:
        """Forget one."""
        self.answer(interaction_id)
        with self._database().writing() as db:
            db.execute("DELETE FROM interactions WHERE id = ?", (interaction_id,))

    def close(self) -> None:
        """Close the database."""
        if self._opened is not None:
            self._opened.close()

    def _column(self, name: str, interaction_id: str) -> bytes:
        oldest = int(self._site.clock()) - KEEP_SECONDS
        with self._database().reading() as db:
            sql = f"SELECT {name} FROM interactions WHERE id = ? AND created_at > ?"  # noqa: S608
            found: Any = db.execute(sql, (interaction_id, oldest)).get
        if found is None:
            raise ApiError(404, f"no interaction {interaction_id[:100]!r}; it was not kept, or its time is over")
        return bytes(found)

    def _database(self) -> Database:
        with self._opening:
            if self._opened is None:
                self._opened = Database(self._site.services.state(_FOLDER) / _DATABASE, SCHEMA)
            return self._opened
