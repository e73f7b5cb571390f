"""A generation: the documents that a compaction folded, in one file that is written once, verified, and only read then."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from lsbuild_plugins.sqlite_vec.serve import clustered, rows
from lsbuild_plugins.sqlite_vec.serve.connect import Connection, Pool, connect, load_vec0
from lsbuild_plugins.sqlite_vec.serve.delta import Generation
from lsbuild_plugins.sqlite_vec.serve.faults import damaged, faults
from lsbuild_plugins.sqlite_vec.serve.format import Meta
from lsbuild_plugins.sqlite_vec.serve.layers import Layer
from lsbuild_plugins.sqlite_vec.serve.rows import Layout
from lsbuild_plugins.sqlite_vec.serve.statefile import sync
from lsbuild_runtime.http import Context

APPLICATION_ID = 0x6C737667
"""SQLite's application_id of a generation: the letters ``lsvg``."""

_PREFIX = "generation-"


class Gone(Exception):
    """The file is not there: another process has switched to a newer one since the delta was read."""


class Index(NamedTuple):
    """A file that only is read: the compiled index or a generation. ``blame`` as in Layer."""

    meta: Meta
    pool: Pool
    layout: Layout
    blame: Callable[[], AbstractContextManager[None]]


class Generations:
    """The generation that this process has open. Safe for use from several threads."""

    def __init__(self, embedding: str, dimensions: int) -> None:
        self._embedding = embedding
        self._dimensions = dimensions
        self._lock = threading.Lock()
        self._open: tuple[Generation, Index] | None = None

    def opened(self, folder: Path, wanted: Generation) -> Index:
        """``wanted``, its size and hash compared once. Gone when it is not there, ApiError 503 when it is damaged."""
        with self._lock:
            if self._open is not None and self._open[0] == wanted:
                return self._open[1]
            path = folder / wanted.file
            _compare(path, wanted)
            pool = Pool(path, _still_there)

            def blame() -> AbstractContextManager[None]:
                return faults(path)

            with blame(), pool.borrowed() as db:
                exact = rows.meta(self._embedding, self._dimensions, rows.counts(db))
                index = Index(clustered.listed(db, exact), pool, rows.WRITTEN, blame)
            self._forget()
            self._open = (wanted, index)
            return index

    def close(self) -> None:
        """Close it, where it is not in use."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._open is not None:
            self._open[1].pool.close()
            self._open = None


class Built(NamedTuple):
    """A generation that no delta names yet (None: nothing was left to hold), and what it took from the delta."""

    generation: Generation | None
    folded: Mapping[str, int]
    """``file_id`` -> version of the document that was folded."""
    passages: int


def build(folder: Path, base: Layer | None, below: Layer | None, delta: Layer, context: Context) -> Built:
    """Write the documents of ``below`` and ``delta`` to a new file, in lists where ``base`` has some and it is large; the
    file is whole and on the disk when this returns.
    """
    found: Any = delta.db.execute("SELECT file_id, version FROM files").fetchall()
    folded = dict(found)
    name = f"{_PREFIX}{os.urandom(8).hex()}.db"
    new = (folder / name).with_suffix(".new")
    try:
        files = _write(new, base, [below, delta] if below else [delta], context)
        if not files:
            return Built(None, folded, delta.meta.chunks)
        sync(new)
        generation = Generation(name, _sha256(new), new.stat().st_size)
        new.rename(folder / name)
        sync(folder)
        return Built(generation, folded, delta.meta.chunks)
    finally:
        new.unlink(missing_ok=True)


def sweep(folder: Path, current: Generation | None) -> None:
    """Remove what is not ``current``: older generations, and what a process that died left. Who has one open keeps it."""
    for path in folder.glob(f"{_PREFIX}*"):
        if current is None or path.name != current.file:
            with suppress(OSError):  # a disk that cannot be written now can be next time
                path.unlink()


def _write(path: Path, base: Layer | None, layers: list[Layer], context: Context) -> int:
    """Without a journal: a file that is not finished has no name that anybody looks for. Returns the number of files."""
    db = apsw.Connection(str(path.absolute()))
    try:
        load_vec0(db)
        db.execute("PRAGMA page_size=4096; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY; PRAGMA journal_mode=OFF")
        with db:
            rows.make(db, layers[0].meta.dimensions)
            for layer in layers:
                for row, document in layer.documents():
                    context.check()
                    rows.append(db, rows.insert(db, document, 0), *layer.content(row))
            if base and base.meta.lists and rows.counts(db).chunks > clustered.EXACT:
                clustered.place(db, base, context)
            db.execute("INSERT INTO words (words) VALUES ('optimize')")
            db.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={rows.SCHEMA}")
        _verify(path, db, rows.Counts(*map(sum, zip(*(layer.visible for layer in layers), strict=True))))
        return rows.counts(db).files
    finally:
        db.close()


def _verify(path: Path, db: apsw.Connection, expected: rows.Counts) -> None:
    """A generation that does not hold just what it should is not switched to."""
    vectors: Any = db.execute("SELECT count(*) FROM vectors").get
    words: Any = db.execute("SELECT count(*) FROM words").get
    held = rows.counts(db)
    lists = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'placed'").get
    placed = db.execute("SELECT count(*) FROM placed").get if lists else vectors
    if held != expected or {vectors, words, placed} != {held.chunks}:
        raise damaged(path, f"expected {expected}, it holds {held}, {vectors} vectors and {words} texts")
    found: Any = db.execute("PRAGMA integrity_check(1)").get
    if found != "ok":
        raise damaged(path, found)


def _still_there(path: Path) -> Connection:
    """A connection to a generation; Gone when it was swept since its name was read, by another thread or process."""
    try:
        return connect(path)
    except (FileNotFoundError, apsw.CantOpenError) as error:
        if path.exists():
            raise
        raise Gone from error


def _compare(path: Path, wanted: Generation) -> None:
    try:
        size = path.stat().st_size
        sha256 = _sha256(path) if size == wanted.size else ""
    except FileNotFoundError as error:
        raise Gone from error
    if size != wanted.size:
        raise damaged(path, f"it has {size} bytes, {wanted.size} were written")
    if sha256 != wanted.sha256:
        raise damaged(path, "its sha256 differs from that of what was written")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
