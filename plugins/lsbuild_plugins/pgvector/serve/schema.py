"""The tables of the database: made on first use, versioned; it knows no document.

Each store has tables of its own, so that its index holds its own vectors only and dropping it leaves no holes.
"""

from __future__ import annotations

import psycopg
from msgspec import Struct

from lsbuild_plugins.pgvector.serve.connect import EF_SEARCH, configure, extension_version
from lsbuild_plugins.pgvector.serve.faults import unavailable
from lsbuild_plugins.pgvector.serve.settings import Settings
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.postgres.pool import Connection

VERSION = 1
"""Raised whenever an older serve half could misread newer tables."""

LOCK = 0x6C736276
"""First half of our advisory locks, the letters ``lsbv``; the second is a store's number, or 0 for the schema."""

OLDEST = (0, 5)
"""pgvector's first version with HNSW."""

INLINE_BYTES = 6000
"""A vector up to this size lies in its row's page: an exact search that looks each one up elsewhere takes 3 x as long."""

INDEXED_DIMENSIONS = 2000
"""pgvector's limit for an index of float32; longer vectors are searched exactly."""

_SHARED = """
CREATE TABLE version (number integer NOT NULL);
CREATE TABLE stores (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL, name text NOT NULL,
    embedding text NOT NULL, dimensions integer NOT NULL, ef_search integer,
    seed text NOT NULL DEFAULT '', record text, UNIQUE (owner, name)
);
CREATE TABLE hidden (store integer REFERENCES stores ON DELETE CASCADE, file_id text, PRIMARY KEY (store, file_id));
"""
"""``owner`` is the service whose clients made the store, "" for one of a spec; ``record`` its StoreRecord as JSON;
``ef_search`` what was measured, 0 when only a comparison of all vectors finds enough; ``seed`` the digest of the compiled
documents that are loaded; ``hidden`` those of them that clients removed or replaced."""

_FILES = """
CREATE TABLE files_{0} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, file_id text COLLATE "C" NOT NULL UNIQUE,
    filename text COLLATE "C" NOT NULL, sha256 text NOT NULL, bytes bigint NOT NULL, attributes jsonb NOT NULL,
    passages integer NOT NULL, created_at bigint NOT NULL, compiled text NOT NULL DEFAULT '',
    relabelled boolean NOT NULL DEFAULT false
);
CREATE TABLE passages_{0} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, file bigint NOT NULL REFERENCES files_{0} ON DELETE CASCADE,
    chunk_id text COLLATE "C" NOT NULL, heading text COLLATE "C" NOT NULL, prefix text NOT NULL, text text NOT NULL,
    start_at integer NOT NULL, end_at integer NOT NULL, line_start integer NOT NULL, line_end integer NOT NULL,
    words tsvector NOT NULL, embedding vector({1}) NOT NULL, UNIQUE (file, chunk_id)
);
ALTER TABLE passages_{0} ALTER COLUMN words SET STORAGE MAIN;
"""
"""``compiled`` is the digest of the document in the seed, "" for one that clients put or added to; ``relabelled`` says that
its attributes are the clients' own. ``words`` stay in their row as long as they can: a ranking reads them all."""


class Tables(Struct, frozen=True):
    """One store: its number, what its vectors are, and how its index is searched (None: not measured, 0: not at all)."""

    store: int
    embedding: str
    dimensions: int
    ef_search: int | None = None

    @property
    def files(self) -> str:
        """The table of documents."""
        return f"files_{self.store}"

    @property
    def passages(self) -> str:
        """The table of passages."""
        return f"passages_{self.store}"


def prepare(connection: Connection, settings: Settings, store: str) -> None:
    """Make what is missing: the extension, the schema, the shared tables. ApiError 503 says what is not permitted."""
    if not _is_there(connection, settings, store):
        with connection.transaction():
            lock(connection, 0)
            _extension(connection, store)
            if not _is_there(connection, settings, store):
                if connection.execute("SELECT to_regnamespace(quote_ident(%s))", (settings.schema,)).fetchone() == (
                    None,
                ):
                    connection.execute(f'CREATE SCHEMA "{settings.schema}"')
                connection.execute("SELECT set_config('search_path', quote_ident(%s), true)", (settings.schema,))
                connection.execute(_SHARED)
                connection.execute("INSERT INTO version VALUES (%s)", (VERSION,))
        configure(connection, settings, settings.ef_search or EF_SEARCH)


def lock(connection: Connection, number: int) -> None:
    """Wait until this transaction is the only one that prepares (0) or loads and drops (a store's number)."""
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK, number))


def find(connection: Connection, name: str, owner: str) -> Tables | None:
    """The store of that name, or None."""
    statement = "SELECT id, embedding, dimensions, ef_search FROM stores WHERE name = %s AND owner = %s"
    row = connection.execute(statement, (name, owner)).fetchone()
    return Tables(*row) if row else None


def create(
    connection: Connection, name: str, embedding: str, dimensions: int, owner: str, record: str | None
) -> Tables:
    """Make a store without indexes; the caller knows that there is none of that name."""
    row = connection.execute(
        "INSERT INTO stores (name, owner, embedding, dimensions, record) VALUES (%s, %s, %s, %s, %s) RETURNING id",
        (name, owner, embedding, dimensions, record),
    ).fetchone()
    assert row is not None  # noqa: S101 - RETURNING gives the row
    tables = Tables(row[0], embedding, dimensions)
    connection.execute(_FILES.format(tables.store, dimensions))
    if dimensions * 4 <= INLINE_BYTES:
        connection.execute(f"ALTER TABLE {tables.passages} ALTER COLUMN embedding SET STORAGE PLAIN")
    return tables


def index(connection: Connection, tables: Tables, settings: Settings) -> None:
    """Give a store its indexes, if it has none: after a load that takes a fraction of what rows one by one take.

    GIN's list of pending rows would make writing cheaper and each search read the list, 450 pages of it on average.
    """
    made = f"CREATE INDEX IF NOT EXISTS {tables.passages}"
    connection.execute(f"{made}_words ON {tables.passages} USING gin (words) WITH (fastupdate = off)")
    if settings.index == "hnsw" and tables.dimensions <= INDEXED_DIMENSIONS:
        connection.execute(f"{made}_vectors ON {tables.passages} USING hnsw (embedding vector_cosine_ops)")


def drop(connection: Connection, tables: Tables) -> None:
    """Forget a store. Its tables are locked in the order in which searches read them."""
    lock(connection, tables.store)
    connection.execute(f"DROP TABLE {tables.passages}, {tables.files}")
    connection.execute("DELETE FROM stores WHERE id = %s", (tables.store,))


def _is_there(connection: Connection, settings: Settings, store: str) -> bool:
    there = "SELECT to_regclass(quote_ident(%s) || '.version') IS NOT NULL"
    if connection.execute(there, (settings.schema,)).fetchone() != (True,):
        return False
    row = connection.execute(f'SELECT number FROM "{settings.schema}".version').fetchone()  # noqa: S608
    if row != (VERSION,):
        found = row[0] if row else "no"
        fault = f"has tables of version {found} in schema {settings.schema!r}, this artifact reads {VERSION}"
        raise unavailable(
            store, f"{fault}; deploy one build everywhere, or set another config.schema", "database_schema"
        )
    return True


def _extension(connection: Connection, store: str) -> None:
    version = extension_version(connection)
    if not version:
        try:
            with connection.transaction():
                connection.execute("CREATE EXTENSION vector SCHEMA public")
        except psycopg.errors.InsufficientPrivilege:
            raise _no_extension(
                store, "and this user may not create it: let an administrator run CREATE EXTENSION vector"
            ) from None
        except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported):
            raise _no_extension(
                store, "and the server has no pgvector: install it (Debian: postgresql-NN-pgvector)"
            ) from None
        version = extension_version(connection)
    if version < OLDEST:
        number = ".".join(map(str, version))
        raise unavailable(
            store, f"has pgvector {number}; {'.'.join(map(str, OLDEST))} or newer is needed", "database_extension"
        )


def _no_extension(store: str, fault: str) -> ApiError:
    return unavailable(store, f"has no extension vector, {fault}", "database_extension", retry_after=60)
