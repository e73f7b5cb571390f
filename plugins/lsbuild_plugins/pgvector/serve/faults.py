"""A failure of the database of a vector store -> an ApiError that says what to do."""

from __future__ import annotations

import psycopg

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.postgres import faults


def api_error(error: psycopg.Error, store: str) -> ApiError:
    """The answer for what psycopg raised while ``store`` was used: 400, 404, 507 or 503."""
    state = error.sqlstate or ""
    if state == "42P01":
        return ApiError(404, f"vector store {store!r} is no longer in the database", code="not_found")
    if state in ("54000", "22001"):
        return ApiError(400, f"vector store {store!r} cannot hold an id or text of that length", code="too_long")
    if state == "55P03":
        return unavailable(store, "is loading documents of another instance", "database_busy")
    return faults.api_error(error, _database(store))


def unavailable(store: str, fault: str, code: str, retry_after: int = faults.RETRY_AFTER) -> ApiError:
    """503 with Retry-After."""
    return faults.unavailable(_database(store), fault, code, retry_after)


def _database(store: str) -> str:
    return f"the database of vector store {store!r}"
