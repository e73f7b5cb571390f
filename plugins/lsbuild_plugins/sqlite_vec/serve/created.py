"""Stores that clients create, as the VectorStores port: a folder each, and one small file that lists their records."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from lsbuild_plugins.sqlite_vec.serve.delta import Delta
from lsbuild_plugins.sqlite_vec.serve.faults import damaged
from lsbuild_plugins.sqlite_vec.serve.mutable import Kind, Mutable
from lsbuild_plugins.sqlite_vec.serve.statefile import StateFile
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.mutable import StoreRecord
from lsbuild_runtime.ports import Fusion, Host, SearchMode

FILE_NAME = "stores.db"

APPLICATION_ID = 0x6C737672
"""SQLite's application_id of the list of stores: the letters ``lsvr``."""

SCHEMA = 1
"""Its user_version."""

OPEN = 64
"""So many stores stay open, those used last: each takes a few file handles."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_TABLES = """
CREATE TABLE stores (id TEXT PRIMARY KEY, folder TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL, record TEXT NOT NULL)
WITHOUT ROWID;
"""


class Created:
    """Safe for use from several threads, and beside other processes on the same folder.

    A store has a folder of a new name each time, so that one that was dropped is never taken for its successor.
    """

    def __init__(self, mode: SearchMode, fusion: Fusion, place: Callable[[], Path], host: Host) -> None:
        self._mode = mode
        self._fusion = fusion
        self._place = place
        self._host = host
        self._list: StateFile | None = None
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Mutable] = OrderedDict()

    def create(self, record: StoreRecord) -> Mutable:
        """See VectorStores; ApiError 400 for an id that is no name, 409 for one that is in use."""
        if not _ID.fullmatch(record.id):
            fault = f"{record.id[:100]!r} is no id: letters, digits, '_', '.' and '-', at most 128"
            raise ApiError(400, fault, param="id", code="invalid_id")
        listed = self._listed()
        listed.make(_fill)
        folder = f"{record.id}~{os.urandom(6).hex()}"
        with listed.write() as db:
            if db.execute("SELECT 1 FROM stores WHERE id = ?", (record.id,)).get:
                raise ApiError(409, f"there is a vector store {record.id!r} already", param="id", code="id_in_use")
            self._sweep(db)
            Delta(listed.path.parent / folder, record.embedding, record.dimensions).make()
            db.execute("INSERT INTO stores VALUES (?, ?, ?, ?)", (record.id, folder, record.created_at, _json(record)))
        return self._opened(record, folder)

    def records(self) -> list[StoreRecord]:
        """See VectorStores."""
        with self._reading() as db:
            if db is None:
                return []
            found: Any = db.execute("SELECT record FROM stores ORDER BY created_at, id").fetchall()
        return [self._record(record) for (record,) in found]

    def update(self, record: StoreRecord) -> bool:
        """See VectorStores; ApiError 400 when ``embedding`` or ``dimensions`` are other ones."""
        listed = self._written()
        if listed is None:
            return False
        with listed.write() as db:
            found: Any = db.execute("SELECT record FROM stores WHERE id = ?", (record.id,)).get
            if found is None:
                return False
            old = self._record(found)
            if (old.embedding, old.dimensions) != (record.embedding, record.dimensions):
                fault = f"store {record.id!r} holds vectors of {old.embedding!r} with {old.dimensions} dimensions"
                raise ApiError(400, f"{fault}; that cannot be changed", param="embedding_model", code="invalid_update")
            values = (_json(record), record.created_at, record.id)
            db.execute("UPDATE stores SET record = ?, created_at = ? WHERE id = ?", values)
            return True

    def open(self, store_id: str) -> Mutable | None:
        """See VectorStores."""
        with self._reading() as db:
            found: Any = (
                db and db.execute("SELECT folder, record FROM stores WHERE id = ?", (_clean(store_id),)).fetchone()
            )
        return self._opened(self._record(found[1]), found[0]) if found else None

    def drop(self, store_id: str) -> bool:
        """See VectorStores. What a crash leaves of the folder goes when the next store is created."""
        listed = self._written()
        if listed is None:
            return False
        with listed.write() as db:
            folder: Any = db.execute("SELECT folder FROM stores WHERE id = ?", (_clean(store_id),)).get
            if folder is None:
                return False
            db.execute("DELETE FROM stores WHERE id = ?", (_clean(store_id),))
        with self._lock:
            store = self._open.pop(folder, None)
        if store:
            store.close()
        shutil.rmtree(listed.path.parent / folder, ignore_errors=True)
        return True

    def _opened(self, record: StoreRecord, folder: str) -> Mutable:
        with self._lock:
            store = self._open.get(folder)
            if store is None:
                path = self._listed().path.parent / folder
                kind = Kind(record.id, self._mode, self._fusion, record.embedding, record.dimensions)
                store = self._open[folder] = Mutable(kind, None, lambda: path, self._host)
            self._open.move_to_end(folder)
            closing = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - OPEN)]
        for each in closing:
            each.close()
        return store

    def _listed(self) -> StateFile:
        if self._list is None:
            self._list = StateFile(self._place() / FILE_NAME)
        return self._list

    def _written(self) -> StateFile | None:
        """The list when there is one; a server that keeps no state has none."""
        try:
            listed = self._listed()
        except ApiError as error:
            if error.status != 503:
                raise
            return None
        return listed if listed.exists() else None

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection | None]:
        listed = self._written()
        if listed is None:
            yield None
            return
        with listed.read() as db:
            yield db

    def _record(self, text: str) -> StoreRecord:
        try:
            return msgspec.json.decode(text, type=StoreRecord)
        except msgspec.MsgspecError as error:
            raise damaged(self._listed().path, str(error)) from error

    def _sweep(self, db: apsw.Connection) -> None:
        """Remove folders that no record names; whoever makes one is in this transaction as we are."""
        known = {folder for (folder,) in db.execute("SELECT folder FROM stores")}
        for path in self._listed().path.parent.glob("*~*"):
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)


def _fill(db: apsw.Connection) -> None:
    db.execute(_TABLES)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA}")


def _json(record: StoreRecord) -> str:
    return msgspec.json.encode(record).decode()


def _clean(text: str) -> str:
    """A lone surrogate has no UTF-8 form and is in no id."""
    return text.encode("utf-8", "replace").decode()
