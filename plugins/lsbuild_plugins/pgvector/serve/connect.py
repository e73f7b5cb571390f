"""Connections to the database of a store, set up for its statements; they know no query."""

from __future__ import annotations

from lsbuild_plugins.pgvector.serve.faults import api_error, unavailable
from lsbuild_plugins.pgvector.serve.settings import Settings
from lsbuild_plugins.pgvector.serve.values import Vector, VectorDumper
from lsbuild_runtime.postgres import pool
from lsbuild_runtime.postgres.pool import Connection

EF_SEARCH = 100
"""Candidates that a search of an index looks at when nothing was measured."""

_EXTENSION = """SELECT e.extversion, quote_ident(n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"""


class Pool(pool.Pool):
    """The connections of ``store``."""

    def __init__(self, settings: Settings, store: str) -> None:
        self._settings = settings
        self._ef_search = settings.ef_search or EF_SEARCH
        super().__init__(
            settings,
            self._set_up,
            lambda error: api_error(error, store),
            lambda fault: unavailable(store, fault, "database_busy", retry_after=1),
        )

    def look_at(self, ef_search: int) -> None:
        """From now on searches of the index look at so many candidates."""
        if ef_search != self._ef_search:
            self._ef_search = ef_search
            self.close()

    def _set_up(self, connection: Connection) -> None:
        connection.adapters.register_dumper(Vector, VectorDumper)
        configure(connection, self._settings, self._ef_search)


def configure(connection: Connection, settings: Settings, ef_search: int) -> None:
    """Set what our statements rely on, for the whole session; run again once the extension is there.

    A plan made for any LIMIT would pass the vector index by, so plans are made for the values at hand; compiling a
    short query costs more than running it.
    """
    found = connection.execute(_EXTENSION).fetchone()
    version, place = found or ("0", "")
    values = {
        "search_path": ", ".join(filter(None, (f'"{settings.schema}"', place))),
        "statement_timeout": str(round(settings.statement_timeout * 1000)),
        "lock_timeout": str(round(settings.statement_timeout * 1000)),
        "plan_cache_mode": "force_custom_plan",
        "jit": "off",
    }
    if found and settings.index == "hnsw":
        values["hnsw.ef_search"] = str(ef_search)
        if _number(version) >= (0, 8):
            values["hnsw.iterative_scan"] = "strict_order"
    pool.configure(connection, values)


def extension_version(connection: Connection) -> tuple[int, ...]:
    """Of pgvector in this database; empty when it is not there."""
    found = connection.execute(_EXTENSION).fetchone()
    return _number(found[0]) if found else ()


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
