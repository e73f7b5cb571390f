"""A small real store that takes documents: SQLite with one row a passage, searched by cosine; and stores of clients' own.

It keeps the promises of `lsbuild_runtime.mutable` in a few lines: each call is one transaction with synchronous=FULL.
"""

from __future__ import annotations

import sqlite3
import threading
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import mul
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Manifest, Service
from lsbuild_runtime.mutable import StoredFile, StoreRecord
from lsbuild_runtime.ports import Attribute, Embedded, Embeddings, Fusion, Hit, Host, Passage, SearchMode, StoreInfo
from small_services import DIMENSIONS, HELPER, LETTERS, PARROT, SHELF, SLOW, Letters, small_manifest

_TABLES = """
CREATE TABLE IF NOT EXISTS files(id TEXT PRIMARY KEY, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS passages(
    file TEXT NOT NULL REFERENCES files(id) ON DELETE CASCADE, chunk TEXT NOT NULL, place INTEGER NOT NULL,
    facts TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY(file, chunk)
);
CREATE TABLE IF NOT EXISTS record(facts TEXT NOT NULL);
"""
COMPILED = StoredFile(
    file_id="file-compiled", filename="compiled.md", sha256="0" * 64, bytes=19, attributes={"kind": "built"}, passages=1
)
"""The document that is in the store of the artifact from the start."""
_TEXT = Passage(
    chunk_id="c-1", text="compiled quizzical", heading="", prefix="", start=0, end=18, line_start=1, line_end=1
)


class GatedLetters(Letters):
    """Letters behind a gate that tests close; it counts the passages it embedded and fails when it is told to."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        """Set as soon as somebody stands before the closed gate."""
        self.embedded: list[str] = []
        self.faults: list[Exception] = []
        """Raised by the next calls, one each."""

    def embed(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], context: Context, dimensions: int | None = None
    ) -> Embedded:
        """See ports.Embeddings."""
        while not self.gate.wait(0.005):
            self.waiting.set()
            context.check()
        if self.faults:
            raise self.faults.pop(0)
        found = super().embed(inputs, context, dimensions)
        self.embedded += map(str, inputs)
        return found


class Notebook:
    """See mutable.MutableVectorIO. The file at ``path`` is there already."""

    def __init__(self, path: Path, model: Embeddings) -> None:
        self._path = path
        self._model = model

    def info(self) -> StoreInfo:
        """See ports.VectorIO."""
        files = self.files()
        return StoreInfo(
            len(files), sum(file.passages for file in files), sum(file.bytes for file in files), DIMENSIONS, "letters"
        )

    def search(
        self,
        query: str,
        context: Context,
        *,
        limit: int = 10,
        mode: SearchMode | None = None,  # noqa: ARG002 - it knows one way only
        filters: Mapping[str, Any] | None = None,
        threshold: float = 0.0,
        fusion: Fusion | None = None,  # noqa: ARG002
    ) -> list[Hit]:
        """See ports.VectorIO; knows the filter ``eq``."""
        (vector,) = self._model.embed([query], context).vectors
        hits = []
        with connected(self._path) as db:
            sql = "SELECT f.facts, p.facts, p.vector FROM passages p JOIN files f ON f.id = p.file"
            for facts, passage, found in db.execute(sql):
                file = msgspec.json.decode(facts, type=StoredFile)
                score = sum(map(mul, array("f", vector), array("f", found)))
                if score >= threshold and _matches(file.attributes, filters):
                    hits.append(_hit(file, msgspec.json.decode(passage, type=Passage), min(1.0, score)))
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))[:limit]

    def put(self, document: StoredFile, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
        """See mutable.MutableVectorIO."""
        with connected(self._path) as db:
            db.execute("DELETE FROM files WHERE id = ?", (document.file_id,))
            _write(db, document, passages, vectors)

    def add(self, document: StoredFile, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
        """See mutable.MutableVectorIO."""
        with connected(self._path) as db:
            _write(db, document, passages, vectors)
            sql = "UPDATE files SET facts = json_set(facts, '$.passages', (SELECT count(*) FROM passages WHERE file = id))"
            db.execute(f"{sql} WHERE id = ?", (document.file_id,))

    def remove(self, file_id: str) -> bool:
        """See mutable.MutableVectorIO."""
        with connected(self._path) as db:
            return db.execute("DELETE FROM files WHERE id = ?", (file_id,)).rowcount > 0

    def set_attributes(self, file_id: str, attributes: Mapping[str, Attribute]) -> bool:
        """See mutable.MutableVectorIO."""
        with connected(self._path) as db:
            sql = "UPDATE files SET facts = json_set(facts, '$.attributes', json(?)) WHERE id = ?"
            return db.execute(sql, (msgspec.json.encode(attributes).decode(), file_id)).rowcount > 0

    def file(self, file_id: str) -> StoredFile | None:
        """See mutable.MutableVectorIO."""
        return next((file for file in self.files() if file.file_id == file_id), None)

    def files(self) -> Sequence[StoredFile]:
        """See mutable.MutableVectorIO."""
        with connected(self._path) as db:
            found = [msgspec.json.decode(row[0], type=StoredFile) for row in db.execute("SELECT facts FROM files")]
        return sorted(found, key=lambda file: (file.created_at, file.file_id))

    def passages(self, file_id: str) -> Sequence[Passage]:
        """See mutable.MutableVectorIO."""
        with connected(self._path) as db:
            rows = db.execute("SELECT facts FROM passages WHERE file = ? ORDER BY place", (file_id,)).fetchall()
        return [msgspec.json.decode(row[0], type=Passage) for row in rows]

    def compact(self, context: Context) -> int:  # noqa: ARG002
        """See mutable.MutableVectorIO."""
        return 0


class Notebooks:
    """See mutable.VectorStores: one file for each store in ``folder``."""

    def __init__(self, folder: Path, model: Embeddings) -> None:
        self._folder = folder
        self._model = model
        self._lock = threading.Lock()

    def create(self, record: StoreRecord) -> Notebook:
        """See mutable.VectorStores."""
        with connected(self._path(record.id)) as db:
            db.executescript(_TABLES)
            db.execute("INSERT INTO record VALUES (?)", (msgspec.json.encode(record),))
        return Notebook(self._path(record.id), self._model)

    def records(self) -> Sequence[StoreRecord]:
        """See mutable.VectorStores."""
        found = []
        for path in self._folder.glob("vs_*.db"):
            with connected(path) as db:
                found += [
                    msgspec.json.decode(row[0], type=StoreRecord) for row in db.execute("SELECT facts FROM record")
                ]
        return sorted(found, key=lambda record: (record.created_at, record.id))

    def update(self, record: StoreRecord) -> bool:
        """See mutable.VectorStores."""
        if not self._path(record.id).exists():
            return False
        with connected(self._path(record.id)) as db:
            db.execute("UPDATE record SET facts = ?", (msgspec.json.encode(record),))
        return True

    def open(self, store_id: str) -> Notebook | None:
        """See mutable.VectorStores."""
        path = self._path(store_id)
        return Notebook(path, self._model) if path.exists() else None

    def drop(self, store_id: str) -> bool:
        """See mutable.VectorStores."""
        there = self._path(store_id).exists()
        self._path(store_id).unlink(missing_ok=True)
        return there

    def _path(self, store_id: str) -> Path:
        return self._folder / f"{store_id}.db"


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction."""
    db = sqlite3.connect(path, timeout=30)
    try:
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA foreign_keys=ON")
        with db:
            db.execute("BEGIN IMMEDIATE")
            yield db
    except sqlite3.OperationalError as error:
        raise ApiError(503, f"{path.name}: {error}", type="server_error", code="service_unavailable") from error
    finally:
        db.close()


def _write(db: sqlite3.Connection, document: StoredFile, passages: Sequence[Passage], vectors: Sequence[bytes]) -> None:
    if any(len(vector) != 4 * DIMENSIONS for vector in vectors):
        raise ApiError(400, f"vectors have {DIMENSIONS} dimensions", param="embedding")
    db.execute(
        "INSERT INTO files VALUES (?, ?) ON CONFLICT(id) DO UPDATE SET facts = excluded.facts",
        (document.file_id, msgspec.json.encode(document)),
    )
    for place, (passage, vector) in enumerate(zip(passages, vectors, strict=True)):
        row = (document.file_id, passage.chunk_id, place, msgspec.json.encode(passage), vector)
        db.execute("INSERT OR REPLACE INTO passages VALUES (?, ?, ?, ?, ?)", row)


def _matches(attributes: Mapping[str, Attribute], filters: Mapping[str, Any] | None) -> bool:
    if filters is None:
        return True
    if filters["type"] != "eq":
        raise ApiError(400, "filters: only eq", param="filters")
    return bool(attributes.get(filters["key"]) == filters["value"])


def _hit(file: StoredFile, passage: Passage, score: float) -> Hit:
    return Hit(
        passage.chunk_id,
        file.file_id,
        file.filename,
        passage.text,
        score,
        passage.heading,
        file.attributes,
        passage.start,
        passage.end,
        passage.line_start,
        passage.line_end,
    )


def open_gated(service: Service, root: Path, host: Host) -> GatedLetters:
    """Entry of the encoder."""
    return GatedLetters()


def open_notes(service: Service, root: Path, host: Host) -> Notebook:
    """Entry of the artifact's own mutable store, which holds COMPILED from the start."""
    path = host.state(service.name) / "own.db"
    model: Embeddings = host.get("embeddings", "letters")
    fresh = not path.exists()
    with connected(path) as db:
        db.executescript(_TABLES)
    notes = Notebook(path, model)
    if fresh:
        notes.put(COMPILED, [_TEXT], model.embed([_TEXT.text], Context()).vectors)
    return notes


def open_notebooks(service: Service, root: Path, host: Host) -> Notebooks:
    """Entry of the stores of clients."""
    return Notebooks(host.state(service.name), host.get("embeddings", "letters"))


TOKENIZER = "models/letters/tokenizer.json"
_CONFIG = {"chunk": {"tokens": 24, "overlap": 4}, "tokenizer": TOKENIZER}
_FACTS = {"mutable": True, "embedding_model": "letters", "embedding_dimension": DIMENSIONS}
NOTES = Service(
    api="vector_io", name="notes", provider="inline::notebook", entry="small_stores:open_notes", config=_CONFIG,
    metadata=_FACTS, needs=("embeddings/letters",),
)  # fmt: skip
NOTEBOOKS = Service(
    api="vector_stores", name="notes", provider="inline::notebook", entry="small_stores:open_notebooks", config=_CONFIG,
    metadata=_FACTS, needs=("embeddings/letters",),
)  # fmt: skip


def mutable_manifest(**server: Any) -> Manifest:
    """The small services and a store that takes documents."""
    letters = replace(LETTERS, entry="small_stores:open_gated")
    return small_manifest((PARROT, SLOW, letters, SHELF, HELPER, NOTES, NOTEBOOKS), **server)


def mutable_bundle(root: Path) -> Path:
    """Write the tokenizer that the mutable store cuts by below ``root``: each word is a token."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    (root / TOKENIZER).parent.mkdir(parents=True)
    tokenizer.save(str(root / TOKENIZER))
    return root
