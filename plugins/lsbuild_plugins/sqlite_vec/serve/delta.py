"""The writable file of a store: documents added since the last compaction, and masks over those of lower layers.

A change is one transaction over vectors, words, texts, files, attributes and masks; what a document is, is `rows`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from lsbuild_plugins.sqlite_vec.serve import rows
from lsbuild_plugins.sqlite_vec.serve.faults import damaged, mismatch
from lsbuild_plugins.sqlite_vec.serve.statefile import StateFile
from lsbuild_runtime.ports import Attribute

FILE_NAME = "delta.db"

APPLICATION_ID = 0x6C737664
"""SQLite's application_id of a delta: the letters ``lsvd``."""

_TABLES = """
CREATE TABLE head (
    embedding TEXT NOT NULL, dimensions INTEGER NOT NULL, version INTEGER NOT NULL, masked INTEGER NOT NULL,
    written INTEGER NOT NULL, generation TEXT
);
CREATE TABLE masks (
    layer INTEGER NOT NULL, file_id TEXT NOT NULL, version INTEGER NOT NULL, attributes TEXT, PRIMARY KEY (layer, file_id)
) WITHOUT ROWID;
"""
"""``head`` has one row, Head. A mask without ``attributes`` hides the document, one with them (JSON) replaces its own."""


class Generation(Struct, frozen=True):
    """A file of folded documents beside the delta, known by its hash."""

    file: str
    sha256: str
    size: int


class Head(Struct, frozen=True):
    """What the delta is at one moment.

    ``version`` counts changes, ``masked`` is the version of the last change of a mask, ``written`` counts passages since
    the last compaction, deleted ones too.
    """

    embedding: str
    dimensions: int
    version: int
    masked: int
    written: int
    generation: Generation | None


class Change(Struct):
    """An open transaction. ``version`` is the one it makes; ``masked`` and ``written`` are noted when it ends."""

    db: apsw.Connection
    head: Head
    version: int
    masked: bool = False
    written: int = 0

    def mask(self, layer: int, file_id: str, attributes: Mapping[str, Attribute] | None) -> None:
        """Hide a document of a lower layer (None) or replace its attributes."""
        given = None if attributes is None else msgspec.json.encode(dict(attributes)).decode()
        self.db.execute("INSERT OR REPLACE INTO masks VALUES (?, ?, ?, ?)", (layer, file_id, self.version, given))
        self.masked = True

    def row(self, file_id: str) -> int | None:
        """The row of a document of the delta itself."""
        found: Any = self.db.execute("SELECT id FROM files WHERE file_id = ?", (file_id,)).get
        return found if found is None else int(found)


class Delta:
    """The file of one store."""

    def __init__(self, folder: Path, embedding: str, dimensions: int) -> None:
        self.folder = folder
        self.state = StateFile(folder / FILE_NAME)
        self._embedding = embedding
        self._dimensions = dimensions

    @contextmanager
    def read(self) -> Iterator[tuple[apsw.Connection, Head]]:
        """A connection that sees one committed state, and its head."""
        with self.state.read() as db:
            yield db, self._head(db)

    @contextmanager
    def change(self) -> Iterator[Change]:
        """The transaction that may write; the file is made when there is none. See StateFile.write."""
        if not self.state.exists():
            self.make()
        with self.state.write() as db:
            head = self._head(db)
            change = Change(db, head, head.version + 1)
            yield change
            db.execute(
                "UPDATE head SET version = ?, masked = ?, written = written + ?",
                (change.version, change.version if change.masked else head.masked, change.written),
            )

    def make(self) -> None:
        """Make the file, empty."""
        self.state.make(self._fill)

    def _fill(self, db: apsw.Connection) -> None:
        rows.make(db, self._dimensions)
        db.execute(_TABLES)
        db.execute("INSERT INTO head VALUES (?, ?, 1, 1, 0, NULL)", (self._embedding, self._dimensions))
        db.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={rows.SCHEMA}")

    def _head(self, db: apsw.Connection) -> Head:
        schema: Any = db.execute("PRAGMA user_version").get
        if schema != rows.SCHEMA:
            raise damaged(self.state.path, f"state schema {schema}, this runtime reads {rows.SCHEMA}")
        found: Any = db.execute("SELECT * FROM head").fetchone()
        if found is None:
            raise damaged(self.state.path, "it has no head")
        embedding, dimensions, version, masked, written, named = found
        generation = msgspec.json.decode(named, type=Generation) if named else None
        head = Head(embedding, dimensions, version, masked, written, generation)
        if (head.embedding, head.dimensions) != (self._embedding, self._dimensions):
            kept = f"model {head.embedding!r} with {head.dimensions} dimensions"
            wanted = f"the artifact has {self._embedding!r} with {self._dimensions}"
            raise mismatch(f"{self.state.path} holds documents embedded by {kept}, {wanted}")
        return head


def switch(change: Change, generation: Generation | None) -> None:
    """Let ``generation`` be the layer below from this change on."""
    given = msgspec.json.encode(generation).decode() if generation else None
    change.db.execute("UPDATE head SET generation = ?, written = 0", (given,))
    change.masked = True
