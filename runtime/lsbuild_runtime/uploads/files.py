"""The files that clients uploaded: content and facts, whole or not there at all; it knows no store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ids import new_id

if TYPE_CHECKING:
    from apsw import Connection

    from lsbuild_runtime.database import Database

Clock = Callable[[], float]
"""Seconds since 1970."""

_COLUMNS = "id, filename, purpose, bytes, sha256, created_at, expires_at"
_ALIVE = "(expires_at IS NULL OR expires_at > ?)"


class File(Struct, frozen=True):
    """What is known of an upload; times in seconds since 1970."""

    id: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    created_at: int
    expires_at: int | None


class Page(Struct, frozen=True):
    """Some of a list in its order, and whether there is more behind it."""

    files: list[File]
    more: bool


class Files:
    """Uploads in the order they came. A file past its time is as good as deleted; `Uploads.expire` frees its room."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(
        self, filename: str, purpose: str, content: bytes, keep_seconds: int | None, file_id: str | None = None
    ) -> File:
        """Keep a file; it is on the disk when this returns. One that has the id ``file_id`` already is left as it is."""
        now = int(self._clock())
        file = File(
            id=file_id or new_id("file-"),
            filename=filename,
            purpose=purpose,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            created_at=now,
            expires_at=None if keep_seconds is None else now + keep_seconds,
        )
        with self._database.writing() as db:
            values = (*_values(file), content)
            db.execute(f"INSERT OR IGNORE INTO files({_COLUMNS}, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608
        return file

    def get(self, file_id: str) -> File:
        """One file; ApiError 404 when there is none."""
        with self._database.reading() as db:
            return self.known(db, file_id)

    def known(self, db: Connection, file_id: str) -> File:
        """As ``get``, within a transaction."""
        sql = f"SELECT {_COLUMNS} FROM files WHERE id = ? AND {_ALIVE}"  # noqa: S608
        row: Any = db.execute(sql, (file_id, int(self._clock()))).fetchone()
        if row is None:
            raise not_found(file_id)
        return File(*row)

    def whole(self, file_id: str) -> tuple[File, bytes]:
        """A file with its bytes; ApiError 404 when there is none."""
        with self._database.reading() as db:
            file = self.known(db, file_id)
            content: Any = db.execute("SELECT content FROM files WHERE id = ?", (file_id,)).get
        return file, content

    def page(self, *, limit: int, newest_first: bool, after: str | None, purpose: str | None) -> Page:
        """At most ``limit`` files behind the one named ``after``; ApiError 400 when that is unknown."""
        order, than = ("DESC", "<") if newest_first else ("ASC", ">")
        where: list[str] = [_ALIVE]
        values: list[Any] = [int(self._clock())]
        with self._database.reading() as db:
            if after is not None:
                seq: Any = db.execute("SELECT seq FROM files WHERE id = ?", (after,)).get
                if seq is None:
                    raise ApiError(400, f"after: no file {after[:100]!r}", param="after", code="invalid_value")
                where.append(f"seq {than} ?")
                values.append(seq)
            if purpose is not None:
                where.append("purpose = ?")
                values.append(purpose)
            sql = f"SELECT {_COLUMNS} FROM files WHERE {' AND '.join(where)} ORDER BY seq {order} LIMIT ?"  # noqa: S608
            rows: list[Any] = db.execute(sql, (*values, limit + 1)).fetchall()
        return Page([File(*row) for row in rows[:limit]], len(rows) > limit)

    def expired(self) -> list[str]:
        """The ids of files past their time."""
        with self._database.reading() as db:
            rows: list[Any] = db.execute("SELECT id FROM files WHERE expires_at <= ?", (int(self._clock()),)).fetchall()
        return [row[0] for row in rows]


def not_found(file_id: str, param: str | None = None) -> ApiError:
    """The 404 for an unknown file."""
    shown = file_id[:100]
    return ApiError(404, f"no file {shown!r}; GET /v1/files lists them", param=param, code="file_not_found")


def _values(file: File) -> tuple[Any, ...]:
    return (file.id, file.filename, file.purpose, file.bytes, file.sha256, file.created_at, file.expires_at)
