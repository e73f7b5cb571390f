"""Records in SQLite: the contract, and what a broken file means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.responses.records import Limits, Records
from lsbuild_runtime.responses.sql import SqlRecords
from lsbuild_runtime.responses.sqlite import SqliteStore
from records_contract import Open, RecordsContract, kept


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Open]:
    """Opens the file of this test."""
    made: list[Records] = []

    def opened(at: float = 1_000.0, **limits: Any) -> Records:
        made.append(SqlRecords(SqliteStore(tmp_path), Limits(**limits), lambda: at))
        return made[-1]

    yield opened
    for each in made:
        each.close()


class TestSqlite(RecordsContract):
    """`inline::sqlite`."""


def test_a_damaged_file_is_told(tmp_path: Path, records: Open) -> None:
    (tmp_path / "responses.sqlite").write_bytes(b"this is no database, and long enough to be looked at" * 100)
    with pytest.raises(ApiError) as caught:
        records().begin(kept("r1"), "a")
    assert caught.value.status == 503
    assert "responses.sqlite is damaged" in caught.value.message


def test_a_file_of_a_newer_runtime_is_refused(tmp_path: Path, records: Open) -> None:
    import apsw

    records().get("r1")
    db = apsw.Connection(str(tmp_path / "responses.sqlite"))
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(ApiError, match="has schema 99"):
        records().get("r1")
